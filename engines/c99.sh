# c99.sh - runs C99 that mqbench exported, and writes what its tensors hold. Sourced by the engines that name a compiler:
# NEEDS: programs that must be there; COMPILE: the compiler with its options; RUN: what starts the program, or nothing.
#
#   check                       the compiler's name, or what is missing (exit code 77)
#   run FILE.c ARGUMENT DIR     DIR/request: what to run and what to write; FILE.h lies beside FILE.c; ARGUMENT is not used
set -eu

check() {
    for program in $NEEDS; do
        command -v "$program" >/dev/null 2>&1 || { echo "$program is not installed"; exit 77; }
    done
    for program in $NEEDS; do
        "$program" --version | head -n 1
    done | paste -s -d ';' | sed 's/;/, /g'
}

# The program around FILE.c: images from DIR/input.f32, in the order of channels that the network wants, into the two functions;
# every tensor that the request names, and the logits, into files of the working folder.
driver() {
    cat <<END
#include <stdint.h>
#include <stdio.h>
static int image_number;
static char wanted[65536];
static void tap(int32_t tensor, const int8_t *codes, int32_t size)
{
    char name[32];
    FILE *file;
    if (tensor < 0 || tensor >= 65536 || !wanted[tensor])
        return;
    sprintf(name, "%d.nhwc", (int)tensor);
    file = fopen(name, image_number ? "ab" : "wb");
    if (file) {
        fwrite(codes, 1, (size_t)size, file);
        fclose(file);
    }
}
#define ${upper}_TAP(tensor, codes, size) tap(tensor, codes, size)
#include NETWORK
#define PIXELS (${upper}_INPUT_HEIGHT * ${upper}_INPUT_WIDTH)
#define CHANNELS ${upper}_INPUT_CHANNELS
static float planes[${upper}_INPUT_SIZE], image[${upper}_INPUT_SIZE];
static int8_t input[${upper}_INPUT_SIZE], scratch[${upper}_SCRATCH_BYTES];
static int32_t output[${upper}_OUTPUT_SIZE];
int main(void)
{
    FILE *request = fopen("request", "r"), *in = fopen("input.f32", "rb"), *out = fopen("logits.f32", "wb");
    char line[4096];
    int index, i, c;
    const double step = ${upper}_OUTPUT_EXPONENT < 0 ? 1.0 / ((int64_t)1 << -${upper}_OUTPUT_EXPONENT)
                                                     : (double)((int64_t)1 << (${upper}_OUTPUT_EXPONENT & 63));
    if (!request || !in || !out)
        return 1;
    while (fgets(line, sizeof(line), request))
        if (sscanf(line, "tensor %d s8", &index) == 1 && index >= 0 && index < 65536)
            wanted[index] = 1;
    for (; fread(planes, sizeof(planes), 1, in) == 1; image_number++) {
        for (c = 0; c < CHANNELS; c++)
            for (i = 0; i < PIXELS; i++)
                image[i * CHANNELS + c] = planes[c * PIXELS + i];
        ${name}_quantize(image, input);
        ${name}_run(input, output, scratch);
        for (i = 0; i < ${upper}_OUTPUT_SIZE; i++) {
            const float logit = (float)((float)output[i] * step);
            fwrite(&logit, sizeof(logit), 1, out);
        }
    }
    return fclose(out) != 0;
}
END
}

# run FILE.c DIR
run() {
    folder=$(cd "$(dirname "$1")" && pwd)
    stem=$(basename "$1" .c)
    name=$(sed -n 's/^void \([A-Za-z0-9_]*\)_run(.*/\1/p' "$folder/$stem.h")
    upper=$(printf %s "$name" | tr '[:lower:]' '[:upper:]')
    [ -n "$name" ] || { echo "$folder/$stem.h declares no function that ends in _run"; exit 1; }
    cd "$2"
    driver >driver.c
    flags="-std=c99 -Wall -Wextra -Werror -pedantic"
    $COMPILE $flags -c "$folder/$stem.c" -o network.o
    $COMPILE $flags -I "$folder" "-DNETWORK=\"$stem.c\"" driver.c -o driver
    $RUN ./driver
    rm -f network.o driver.c driver
}

case "${1-}" in
check) check ;;
run) [ $# -eq 4 ] && run "$2" "$4" ;;
*) echo "usage: $0 check | run FILE.c ARGUMENT DIR"; exit 2 ;;
esac
