# record.awk - the rows of run.sh as JSON. Fields as in row.awk.
BEGIN {
    printf "{\n  \"schema\": \"mqbench.bench/2\",\n  \"date\": \"%s\",\n  \"cpu\": \"%s\",\n  \"cores\": %d,\n  \"threads\": %d,\n",
        date, cpu, cores, threads
    printf "  \"rounds\": %d,\n  \"load_before\": %s,\n  \"load_after\": %s,\n  \"rows\": [", rounds, before, after
}
{
    split($6, a, " ")
    split($10, b, " ")
    printf "%s\n    {\"group\": \"%s\", \"row\": \"%s\", \"unit\": \"%s\", ", ((NR > 1) ? "," : ""), $1, $2, $4
    printf "\"best\": %s, \"median\": %s, \"cpu\": %s, ", value(a[1]), value(a[2]), value($7)
    printf "\"beside\": \"%s\", \"beside_best\": %s, \"beside_median\": %s, \"beside_cpu\": %s, ", $3, value(b[1]), value(b[2]), value($11)
    printf "\"ratio\": %s, \"ratio_by_cpu\": %s, \"goal\": %s, ", times(b[2], a[2]), times($11, $7), value($5)
    printf "\"peak_mb\": %s, \"beside_peak_mb\": %s, \"limit_percent\": %s}", value($8), value($12), value($9)
}
END { print "\n  ]\n}" }
function value(x) { return (x == "-" || x == "") ? "null" : x }
function times(theirs, ours) { return (theirs > 0 && ours > 0) ? sprintf("%.3f", theirs / ours) : "null" }
