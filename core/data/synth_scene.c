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

static const float object_radius[2] = {0.42f, 0.80f};  /* smallest, largest */
static const float object_stretch = 0.30f;             /* the two axes differ by at most this share, each way */
static const float object_shear = 0.35f;
static const float object_shift = 0.95f;               /* how much of the room left to the border may be used */
static const float contrast[2] = {0.16f, 0.60f};       /* object against ground */
static const float object_texture[2] = {0.0f, 0.14f};  /* blotches on the object */
static const float ground_texture[2] = {0.02f, 0.20f}; /* blotches on the ground */
static const float ground_waves = 0.13f;               /* strongest stripes on the ground ... */
static const float ground_waves_share = 0.4f;          /* ... and how often there are any */
static const uint32_t clutter_count[2] = {1, 5};       /* small pieces around */
static const float clutter_radius[2] = {0.10f, 0.26f};
static const float clutter_contrast = 0.45f;
static const float clutter_above = 0.35f;              /* share of the pieces that lie on the object */
static const float hidden_share = 0.35f;               /* how often a bar covers a part of the object ... */
static const float hidden_width[2] = {0.12f, 0.30f};   /* ... and how wide half of it is */
static const float light_gain = 0.30f;                 /* per channel, 1 +- */
static const float light_offset = 0.10f;
static const float blur_share = 0.35f;
static const float noise[2] = {0.02f, 0.11f};          /* standard deviation */

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

/* ---- shapes: within the unit circle or nearly, of about one area ---- */

enum shape { DISC, SQUARE, TRIANGLE, STAR, CROSS, RING, SPIRAL, CRESCENT, STRIPES, CHECKER };

static bool in_square(float u, float v)
{
    return u > -0.66f && u < 0.66f && v > -0.66f && v < 0.66f;
}

static bool in_triangle(float u, float v)
{
    /* Three half-planes at 120 degrees. */
    return v > -0.48f && 0.8660254f * u + 0.5f * -v > -0.48f && -0.8660254f * u + 0.5f * -v > -0.48f;
}

static bool in_star(float u, float v)
{
    /* Folded into one half of one of five points: mirror at the lines through the centre, then one edge is left. */
    u = u < 0 ? -u : u;
    float side = 0.95105652f * u - 0.30901699f * v; /* normal at -18 degrees */
    float across = 0.58778525f * u + 0.80901699f * v;
    if (0.58778525f * u - 0.80901699f * v > 0) { /* below 36 degrees from the downward axis: the lower points */
        float x = 0.80901699f * u + 0.58778525f * v, y = 0.58778525f * u - 0.80901699f * v;
        x = x < 0 ? -x : x;
        u = x;
        v = y;
    } else if (side > 0.30901699f * u + 0.0f && across < 0.95105652f * u + v) {
        float x = 0.30901699f * u - 0.95105652f * v, y = 0.95105652f * u + 0.30901699f * v;
        x = x < 0 ? -x : x;
        u = x;
        v = y;
    }
    /* The edge from the tip (0, 1) to the inner corner at 36 degrees, radius 0.42. */
    float tip = 1.0f, inner_u = 0.42f * 0.58778525f, inner_v = 0.42f * 0.80901699f;
    return (inner_u - 0.0f) * (v - tip) - (inner_v - tip) * (u - 0.0f) < 0;
}
