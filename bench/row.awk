# row.awk - a row of run.sh as a line of its table.
# Fields: group, name, other, unit, goal, best and median, cpu, MB, share of the limit in %, the other's best and median, cpu, MB.
{
    split($6, a, " ")
    split($10, b, " ")
    printf "%-38s %9s %9s %9s  %-16s %9s %9s %9s  %7s %7s %7s  %6s %6s %6s\n", $2, a[1], a[2], $7, $3, b[1], b[2], $11,
        times(b[2], a[2]), times($11, $7), ($5 == "-") ? "-" : $5 "x", $8, $12, ($9 == "-") ? "-" : $9 " %"
}
function times(theirs, ours) { return (theirs > 0 && ours > 0) ? sprintf("%.2fx", theirs / ours) : "-" }
