# chart.awk - the rows of one group of run.sh as an SVG: how many times faster than what stands beside, on a logarithmic axis.
# Fields as in row.awk.
BEGIN { LEFT = 310; WIDTH = 420; RIGHT = 270; TOP = 66; STEP = 26; most = 2; least = 0.5 }
$1 == group {
    split($6, a, " ")
    split($10, b, " ")
    if (!(a[2] > 0 && b[2] > 0))
        next
    n++
    name[n] = $2; other[n] = $3; unit[n] = $4; ours[n] = a[2]; theirs[n] = b[2]
    ratio[n] = b[2] / a[2]
    by_cpu[n] = ($7 > 0 && $11 > 0) ? $11 / $7 : 0
    goal[n] = ($5 == "-") ? 0 : $5 + 0
    widen(ratio[n]); widen(goal[n]); widen(by_cpu[n])
}
END {
    if (n == 0)
        exit
    titles["step"] = "Training step"; titles["infer"] = "Inference"
    titles["calibrate"] = "Calibration"; titles["start"] = "Start and load"
    bottom = TOP + STEP * n
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n",
        LEFT + WIDTH + RIGHT, bottom + 74
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    words(12, 24, "start", 16, "black", titles[group] ": how many times faster, or smaller, than what it is measured beside")
    words(12, 44, "start", 11, "#666666", machine ", " date)
    for (tick = least; tick <= most; tick *= 2) {
        printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"%s\"/>\n", at(tick), at(tick), TOP - 6, bottom,
            (tick == 1) ? "#444444" : "#dddddd"
        words(at(tick), bottom + 16, "middle", 11, "#444444", tick "x")
    }
    for (i = 1; i <= n; i++)
        bar(i, TOP + STEP * (i - 1))
    words(LEFT, bottom + 40, "start", 11, "#444444", "bar: by the clock, from 1x (as fast); ring: by processor time; black mark: the goal; on the right: (theirs / ours)")
    printf "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"10\" fill=\"#2b7bba\"/>", LEFT, bottom + 50
    words(LEFT + 17, bottom + 59, "start", 11, "#444444", "goal reached, or none")
    printf "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"10\" fill=\"#d9822b\"/>", LEFT + 160, bottom + 50
    words(LEFT + 177, bottom + 59, "start", 11, "#444444", "goal missed by the clock")
    print "</svg>"
}
function bar(i, y,   from, to, missed) {
    missed = goal[i] > 0 && ratio[i] < goal[i]
    from = at(1); to = at(ratio[i])
    words(LEFT - 10, y + 14, "end", 12, "black", name[i])
    printf "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"%s\"/>\n", (from < to) ? from : to, y + 2,
        (from < to) ? to - from : from - to, missed ? "#d9822b" : "#2b7bba"
    if (goal[i] > 0)
        printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"black\" stroke-width=\"2\"/>\n", at(goal[i]), at(goal[i]), y - 1, y + 21
    if (by_cpu[i] > 0)
        printf "<circle cx=\"%.1f\" cy=\"%d\" r=\"4\" fill=\"white\" stroke=\"black\"/>\n", at(by_cpu[i]), y + 10
    words(LEFT + WIDTH + 10, y + 14, "start", 12, "black",
        sprintf("%.2fx %s (%s / %s %s)", ratio[i], other[i], short(theirs[i]), short(ours[i]), unit[i]))
}
function words(x, y, anchor, size, color, text) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text)
    printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\" font-size=\"%d\" fill=\"%s\">%s</text>\n", x, y, anchor, size, color, text
}
function short(x) { return (x >= 100) ? sprintf("%.0f", x) : (x >= 10) ? sprintf("%.1f", x) : sprintf("%.2f", x) }
function at(x) { return LEFT + WIDTH * (log(x) - log(least)) / (log(most) - log(least)) }
function widen(x) { while (x > most) most *= 2; while (x > 0 && x < least) least /= 2 }
