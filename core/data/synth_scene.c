/*
 * synth_scene.c - draws one generated picture: an object of its class, turned, stretched and half hidden, on a textured
 * ground among clutter, then light, blur and noise.
 *
 * Only +, -, *, /, comparisons, mqb_philox, mqb_sin and mqb_cos are used, and every random number is drawn in a statement of
 * its own (C leaves the order within an expression open): the bytes are the same on every machine and compiler.
 */
#include "data/source.h"

#include <string.h>

/* ---- how hard it is; lengths are in halves of the picture's side, colours in 0..1 ---- */

static const float object_radius[2] = {0.48f, 0.85f}; /* smallest, largest */
static const float object_stretch = 0.25f;            /* the two axes differ by at most this share, each way */
static const float object_shear = 0.25f;
static const float object_shift = 0.75f;               /* how much of the room left to the border may be used */
static const float contrast[2] = {0.28f, 0.75f};       /* object against ground */
static const float object_texture[2] = {0.0f, 0.10f};  /* blotches on the object */
static const float ground_texture[2] = {0.02f, 0.14f}; /* blotches on the ground */
static const float ground_waves = 0.10f;               /* strongest stripes on the ground ... */
static const float ground_waves_share = 0.3f;          /* ... and how often there are any */
static const uint32_t clutter_count[2] = {0, 3};       /* small pieces around */
static const float clutter_radius[2] = {0.08f, 0.22f};
static const float clutter_contrast = 0.45f;
static const float clutter_above = 0.25f;            /* share of the pieces that lie on the object */
static const float hidden_share = 0.25f;             /* how often a bar covers a part of the object ... */
static const float hidden_width[2] = {0.10f, 0.24f}; /* ... and how wide half of it is */
static const float light_gain = 0.25f;               /* per channel, 1 +- */
static const float light_offset = 0.10f;
static const float blur_share = 0.25f;
static const float noise[2] = {0.01f, 0.07f}; /* standard deviation */

/* ---- random numbers of one picture ---- */

#define SIZE MQB_SYNTH_SIZE

struct draw {
    uint64_t seed, stream, counter;
    uint32_t word[4];
    int left;
};

static uint32_t draw_word(struct draw *draw)
{
    if (draw->left == 0) {
        mqb_philox(draw->seed, draw->stream, draw->counter++, draw->word);
        draw->left = 4;
    }
    return draw->word[--draw->left];
}

static float draw_between(struct draw *draw, float low, float high)
{
    return low + (high - low) * ((float)(draw_word(draw) >> 8) * 0x1p-24f);
}

static uint32_t draw_below(struct draw *draw, uint32_t n)
{
    return (uint32_t)(((uint64_t)draw_word(draw) * n) >> 32);
}

static bool draw_chance(struct draw *draw, float share)
{
    return draw_between(draw, 0, 1) < share;
}

/* A direction in colour space whose largest component is 1 or -1. */
static void draw_tint(struct draw *draw, float tint[3])
{
    float largest = 0.25f;
    for (int c = 0; c < 3; c++) {
        tint[c] = draw_between(draw, -1, 1);
        float size = tint[c] < 0 ? -tint[c] : tint[c];
        largest = size > largest ? size : largest;
    }
    for (int c = 0; c < 3; c++)
        tint[c] = tint[c] / largest;
}

/* ---- shapes: within the unit circle or nearly ---- */

enum shape { DISC, SQUARE, TRIANGLE, STAR, CROSS, RING, SPIRAL, CRESCENT, STRIPES, CHECKER };

static bool in_triangle(float u, float v)
{
    return v > -0.46f && 0.8660254f * u - 0.5f * v > -0.46f && -0.8660254f * u - 0.5f * v > -0.46f;
}

/* A pentagram's point lies on the inner side of at least four of its five lines. */
static bool in_star(float u, float v)
{
    const float line = 0.325f;
    int inside = (v < line) + (0.95105652f * u + 0.30901699f * v < line) + (-0.95105652f * u + 0.30901699f * v < line) +
                 (0.58778525f * u - 0.80901699f * v < line) + (-0.58778525f * u - 0.80901699f * v < line);
    return inside >= 4;
}

static bool in_cross(float u, float v)
{
    u = u < 0 ? -u : u;
    v = v < 0 ? -v : v;
    return (u < 0.27f && v < 0.85f) || (v < 0.27f && u < 0.85f);
}

/* True if the point's distance from (x, 0) is within `half` of `radius`. */
static bool near_circle(float u, float v, float x, float radius, float half)
{
    float square = (u - x) * (u - x) + v * v, outer = radius + half, inner = radius - half;
    return square < outer * outer && (inner < 0 || square > inner * inner);
}

/* Half circles that take turns: above the axis around 0, below it around the next centre. */
static bool in_spiral(float u, float v)
{
    const float half = 0.13f;
    if (v >= 0)
        return near_circle(u, v, -0.1f, 0.13f, half) || near_circle(u, v, -0.1f, 0.56f, half);
    return near_circle(u, v, 0.115f, 0.345f, half) || near_circle(u, v, 0.115f, 0.775f, half);
}

static bool in_shape(enum shape shape, float u, float v)
{
    switch (shape) {
    case DISC:
        return u * u + v * v < 0.72f * 0.72f;
    case SQUARE:
        return u > -0.64f && u < 0.64f && v > -0.64f && v < 0.64f;
    case TRIANGLE:
        return in_triangle(u, v);
    case STAR:
        return in_star(u, v);
    case CROSS:
        return in_cross(u, v);
    case RING:
        return near_circle(u, v, 0, 0.66f, 0.17f);
    case SPIRAL:
        return in_spiral(u, v);
    case CRESCENT:
        return u * u + v * v < 0.82f * 0.82f && (u - 0.38f) * (u - 0.38f) + v * v > 0.62f * 0.62f;
    case STRIPES: /* these two are told by their filling, see struct object */
    case CHECKER:
        break;
    }
    return false;
}

/* ---- layers ---- */

struct canvas {
    float rgb[SIZE][SIZE][3];
};

/* Adds blotches of `amount`, along `tint`: random values on a grid of `cells`, interpolated. */
static void add_blotches(struct draw *draw, uint32_t cells, float amount, const float tint[3], float out[SIZE][SIZE][3])
{
    float grid[10][10];
    for (uint32_t y = 0; y <= cells; y++)
        for (uint32_t x = 0; x <= cells; x++)
            grid[y][x] = draw_between(draw, -amount, amount);
    for (uint32_t y = 0; y < SIZE; y++) {
        uint32_t row = y * cells / SIZE;
        float down = (float)(y * cells % SIZE) * (1.0f / SIZE);
        for (uint32_t x = 0; x < SIZE; x++) {
            uint32_t col = x * cells / SIZE;
            float right = (float)(x * cells % SIZE) * (1.0f / SIZE);
            float above = grid[row][col] + (grid[row][col + 1] - grid[row][col]) * right;
            float below = grid[row + 1][col] + (grid[row + 1][col + 1] - grid[row + 1][col]) * right;
            float value = above + (below - above) * down;
            for (int c = 0; c < 3; c++)
                out[y][x][c] += value * tint[c];
        }
    }
}

static void draw_ground(struct draw *draw, const float color[3], struct canvas *canvas)
{
    float tint[3], slope[2];
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++)
            memcpy(canvas->rgb[y][x], color, 3 * sizeof *color);
    float amount = draw_between(draw, ground_texture[0], ground_texture[1]);
    draw_tint(draw, tint);
    add_blotches(draw, 3, amount, tint, canvas->rgb);
    draw_tint(draw, tint);
    add_blotches(draw, 8, 0.6f * amount, tint, canvas->rgb);
    if (!draw_chance(draw, ground_waves_share))
        return;
    /* Triangle waves: what a class made of stripes must be told from. */
    draw_tint(draw, tint);
    slope[0] = draw_between(draw, -4.0f, 4.0f);
    slope[1] = draw_between(draw, -4.0f, 4.0f);
    float phase = draw_between(draw, 16, 17), height = draw_between(draw, 0, 2 * ground_waves);
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            float at = phase + slope[0] * (float)x * (1.0f / SIZE) + slope[1] * (float)y * (1.0f / SIZE);
            float part = at - (float)(int32_t)at, wave = part < 0.5f ? part : 1 - part;
            for (int c = 0; c < 3; c++)
                canvas->rgb[y][x][c] += height * (wave - 0.25f) * 2 * tint[c];
        }
}

/* A shape somewhere: (u, v) = inverse * ((x, y) - centre). Within a patterned object, pattern picks between two colours. */
struct object {
    enum shape shape, pattern;          /* pattern: STRIPES, CHECKER, or the shape itself for none */
    float centre[2], inverse[4], reach; /* reach: nothing lies farther from the centre */
    float frequency, phase;
    float color[2][3];
};

static void place_object(struct draw *draw, struct object *object, float radius)
{
    double angle = 6.283185307179586 * (double)draw_between(draw, 0, 1);
    float cosine = (float)mqb_cos(angle), sine = (float)mqb_sin(angle);
    float stretch = draw_between(draw, -object_stretch, object_stretch),
          shear = draw_between(draw, -object_shear, object_shear);
    float mirror = draw_chance(draw, 0.5f) ? -1.0f : 1.0f, room = 1 - 0.8f * radius;
    float a = radius * (1 + stretch) * mirror, b = radius * shear, d = radius * (1 - stretch); /* [a b; 0 d], then turned */
    for (int i = 0; i < 2; i++)
        object->centre[i] = draw_between(draw, -room * object_shift, room * object_shift);
    /* The inverse of [a b; 0 d] times the turn back. */
    object->inverse[0] = (cosine + b / d * sine) / a;
    object->inverse[1] = (sine - b / d * cosine) / a;
    object->inverse[2] = -sine / d;
    object->inverse[3] = cosine / d;
    object->reach = 1.7f * radius;
}

static bool second_color(const struct object *object, float u, float v)
{
    int32_t across = (int32_t)(u * object->frequency + object->phase + 64),
            down = (int32_t)(v * object->frequency + object->phase + 64);
    return object->pattern == STRIPES ? across % 2 != 0 : (across + down) % 2 != 0;
}

/* The pixel that holds coordinate `at`, or the nearest in the picture. */
static int pixel_at(float at)
{
    float pixel = (at + 1) * (0.5f * SIZE);
    return pixel < 0 ? 0 : pixel > SIZE - 1 ? SIZE - 1 : (int)pixel;
}

/* Four samples a pixel, each of the ground, the first or the second colour; blotches are added to the latter two. */
static void draw_object(const struct object *object, float blotches[SIZE][SIZE][3], struct canvas *canvas)
{
    int left = pixel_at(object->centre[0] - object->reach), right = pixel_at(object->centre[0] + object->reach);
    int top = pixel_at(object->centre[1] - object->reach), bottom = pixel_at(object->centre[1] + object->reach);
    for (int y = top; y <= bottom; y++)
        for (int x = left; x <= right; x++) {
            int count[2] = {0, 0};
            for (int sample = 0; sample < 4; sample++) {
                float dx = ((float)(4 * x + 1 + 2 * (sample & 1)) - 2 * SIZE) * (1.0f / (2 * SIZE)) - object->centre[0];
                float dy = ((float)(4 * y + 1 + (sample & 2)) - 2 * SIZE) * (1.0f / (2 * SIZE)) - object->centre[1];
                if (dx * dx + dy * dy > object->reach * object->reach)
                    continue;
                float u = object->inverse[0] * dx + object->inverse[1] * dy,
                      v = object->inverse[2] * dx + object->inverse[3] * dy;
                if (in_shape(object->shape, u, v))
                    count[object->pattern != object->shape && second_color(object, u, v)]++;
            }
            float first = (float)count[0] * 0.25f, second = (float)count[1] * 0.25f, ground = 1 - first - second;
            if (first + second == 0)
                continue;
            float *rgb = canvas->rgb[y][x];
            for (int c = 0; c < 3; c++) {
                rgb[c] = ground * rgb[c] + first * object->color[0][c] + second * object->color[1][c];
                rgb[c] += blotches == NULL ? 0 : (first + second) * blotches[y][x][c];
            }
        }
}

static void draw_main_object(struct draw *draw, enum shape class, const float ground[3], struct object *object,
                             struct canvas *canvas)
{
    static const enum shape outlines[] = {DISC, SQUARE, TRIANGLE, CRESCENT};
    float tint[3], blotches[SIZE][SIZE][3];
    bool patterned = class == STRIPES || class == CHECKER;
    memset(blotches, 0, sizeof blotches);
    float radius = draw_between(draw, object_radius[0], object_radius[1]);
    place_object(draw, object, radius);
    object->pattern = class;
    object->shape = patterned ? outlines[draw_below(draw, 4)] : class;
    object->frequency = draw_between(draw, 2.2f, 3.6f) * (radius < 0.6f ? 0.8f : 1.0f);
    object->phase = draw_between(draw, 0, 2);
    float strength = draw_between(draw, contrast[0], contrast[1]);
    draw_tint(draw, tint);
    for (int c = 0; c < 3; c++)
        object->color[0][c] = ground[c] + strength * tint[c];
    /* The second colour lies on the other side of the ground's or beyond it: as far from the first as that is from the ground.
     */
    float back = draw_between(draw, -0.4f, 0.6f);
    for (int c = 0; c < 3; c++)
        object->color[1][c] = ground[c] - back * strength * tint[c];
    float amount = draw_between(draw, object_texture[0], object_texture[1]);
    draw_tint(draw, tint);
    add_blotches(draw, 6, amount, tint, blotches);
    draw_object(object, blotches, canvas);
}

/* Small shapes of the classes and bars, as likely in any class. Those above are drawn after the object. */
static void draw_clutter(struct draw *draw, uint32_t count, const float ground[3], struct canvas *canvas)
{
    static const enum shape pieces[] = {DISC, SQUARE, TRIANGLE, CROSS, RING, CRESCENT};
    struct object piece = {0};
    float tint[3];
    for (uint32_t i = 0; i < count; i++) {
        piece.shape = piece.pattern = pieces[draw_below(draw, sizeof pieces / sizeof pieces[0])];
        place_object(draw, &piece, draw_between(draw, clutter_radius[0], clutter_radius[1]));
        float strength = draw_between(draw, 0.1f, clutter_contrast);
        draw_tint(draw, tint);
        for (int c = 0; c < 3; c++)
            piece.color[0][c] = ground[c] + strength * tint[c];
        draw_object(&piece, NULL, canvas);
    }
}

/* A bar across a part of the object, of nearly the ground's colour. */
static void draw_bar(struct draw *draw, const struct object *object, const float ground[3], struct canvas *canvas)
{
    float tint[3], color[3];
    double angle = 6.283185307179586 * (double)draw_between(draw, 0, 1);
    float cosine = (float)mqb_cos(angle), sine = (float)mqb_sin(angle);
    float half = draw_between(draw, hidden_width[0], hidden_width[1]), aside = draw_between(draw, 0.2f, 0.5f);
    float strength = draw_between(draw, 0, 0.3f);
    draw_tint(draw, tint);
    for (int c = 0; c < 3; c++)
        color[c] = ground[c] + strength * tint[c];
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            float dx = (float)(2 * x + 1 - SIZE) * (1.0f / SIZE) - object->centre[0];
            float dy = (float)(2 * y + 1 - SIZE) * (1.0f / SIZE) - object->centre[1];
            float off = cosine * dx + sine * dy - aside;
            if (off < half && off > -half)
                memcpy(canvas->rgb[y][x], color, sizeof color);
        }
}

static void blur(float share, const struct canvas *in, struct canvas *out)
{
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            int above = y > 0 ? y - 1 : y, below = y < SIZE - 1 ? y + 1 : y, left = x > 0 ? x - 1 : x,
                right = x < SIZE - 1 ? x + 1 : x;
            for (int c = 0; c < 3; c++) {
                float around = in->rgb[above][x][c] + in->rgb[below][x][c] + in->rgb[y][left][c] + in->rgb[y][right][c];
                out->rgb[y][x][c] = (1 - share) * in->rgb[y][x][c] + share * 0.25f * around;
            }
        }
}

/* Light, noise (a sum of four bytes is near enough to a normal number) and rounding. */
static void expose(struct draw *draw, const struct canvas *canvas, uint8_t *out)
{
    float gain[3], offset[3], sigma = draw_between(draw, noise[0], noise[1]);
    for (int c = 0; c < 3; c++) {
        gain[c] = draw_between(draw, 1 - light_gain, 1 + light_gain);
        offset[c] = draw_between(draw, -light_offset, light_offset);
    }
    /* The sum's mean is 510, its variance 4 * (256^2 - 1) / 12. */
    float step = sigma / 147.8f;
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++)
            for (int c = 0; c < 3; c++) {
                uint32_t word = draw_word(draw);
                int32_t sum = (int32_t)((word & 255) + (word >> 8 & 255) + (word >> 16 & 255) + (word >> 24));
                float value = canvas->rgb[y][x][c] * gain[c] + offset[c] + step * (float)(sum - 510);
                value = value * 255 + 0.5f;
                *out++ = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
}

void mqb_synth_scene(uint64_t seed, uint64_t stream, int32_t label, uint8_t *out)
{
    struct draw draw = {.seed = seed, .stream = stream};
    struct canvas canvas, soft;
    struct object object = {0};
    float ground[3];
    for (int c = 0; c < 3; c++)
        ground[c] = draw_between(&draw, 0.25f, 0.75f);
    draw_ground(&draw, ground, &canvas);
    uint32_t count = clutter_count[0] + draw_below(&draw, clutter_count[1] - clutter_count[0] + 1), above = 0;
    for (uint32_t i = 0; i < count; i++)
        above += draw_chance(&draw, clutter_above);
    draw_clutter(&draw, count - above, ground, &canvas);
    draw_main_object(&draw, (enum shape)label, ground, &object, &canvas);
    if (draw_chance(&draw, hidden_share))
        draw_bar(&draw, &object, ground, &canvas);
    draw_clutter(&draw, above, ground, &canvas);
    if (draw_chance(&draw, blur_share)) {
        blur(draw_between(&draw, 0.2f, 0.8f), &canvas, &soft);
        canvas = soft;
    }
    expose(&draw, &canvas, out);
}
