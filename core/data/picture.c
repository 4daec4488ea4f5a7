/* picture.c - a decoded picture: reading it by content, fitting it to a network's input. */
#include "data/source.h"

#include <math.h>
#include <string.h>

#define MAX_FILE ((size_t)1 << 28)
#define MAX_PIXELS ((uint64_t)1 << 27) /* beyond that a small file can ask for more memory than a machine has */

mqb_status mqb_picture_init(struct mqb_picture *picture, uint64_t width, uint64_t height, struct mqb_error *error)
{
    *picture = (struct mqb_picture){0};
    if (width == 0 || height == 0 || width > 65535 || height > 65535 || width * height > MAX_PIXELS)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "a picture of %llu x %llu pixels; expected 1 to 65535 a side and at most %llu in all",
                        (unsigned long long)width, (unsigned long long)height, (unsigned long long)MAX_PIXELS);
    picture->rgb = mqb_allocate_array(width * height, 3);
    if (picture->rgb == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a picture of %llu x %llu pixels", (unsigned long long)width,
                        (unsigned long long)height);
    picture->width = (int32_t)width;
    picture->height = (int32_t)height;
    return MQB_OK;
}

void mqb_picture_deinit(struct mqb_picture *picture)
{
    mqb_deallocate(picture->rgb);
    *picture = (struct mqb_picture){0};
}

mqb_status mqb_picture_read(const char *path, struct mqb_picture *picture, struct mqb_error *error)
{
    void *data = NULL;
    size_t size = 0;
    *picture = (struct mqb_picture){0};
    mqb_status status = mqb_file_read(path, MAX_FILE, &data, &size, error);
    if (status != MQB_OK)
        return status;
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        status = mqb_picture_from_jpeg(data, size, picture, error);
    else if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        status = mqb_picture_from_png(data, size, picture, error);
    else
        status = mqb_fail(error, MQB_ERR_FORMAT, "is neither a JPEG nor a PNG picture (%zu bytes); replace or remove it", size);
    mqb_deallocate(data);
    if (status != MQB_OK) {
        mqb_picture_deinit(picture);
        mqb_fail_prefix(error, status, "%s", path);
    }
    return status;
}

static mqb_status fit_whole(const struct mqb_picture *picture, int32_t size, uint8_t *out, struct mqb_error *error)
{
    int32_t width = picture->width, height = picture->height;
    int32_t side = width < height ? width : height, target = (int32_t)((int64_t)size * 256 / 224);
    if (side < size || side > target) {
        /* The long side is cut to whole pixels, as torchvision does. */
        width = (int32_t)((int64_t)target * picture->width / side);
        height = (int32_t)((int64_t)target * picture->height / side);
    }
    struct mqb_resize resize = {
        .height = picture->height,
        .width = picture->width,
        .channels = 3,
        .stride = (size_t)picture->width * 3,
        .to_height = height,
        .to_width = width,
        .top = (height - size) / 2,
        .left = (width - size) / 2,
        .rows = size,
        .cols = size,
    };
    if (width != picture->width || height != picture->height)
        return mqb_resize(&resize, picture->rgb, out, error);
    for (int32_t y = 0; y < size; y++)
        memcpy(out + (size_t)y * (size_t)size * 3,
               picture->rgb + (size_t)(resize.top + y) * resize.stride + (size_t)resize.left * 3, (size_t)size * 3);
    return MQB_OK;
}

/* Inception's crop as everybody does it (torchvision RandomResizedCrop): area 0.08..1, ratio 3/4..4/3, ten tries. */
static mqb_status fit_random(const struct mqb_picture *picture, int32_t size, uint64_t key, uint8_t *out,
                             struct mqb_error *error)
{
    const double log_ratio = 0.28768207245178092; /* ln(4/3) */
    int32_t width = picture->width, height = picture->height;
    int32_t cols = 0, rows = 0, left = 0, top = 0;
    for (uint64_t attempt = 0; attempt < 10; attempt++) {
        double area = (double)width * height * (0.08 + 0.92 * (double)mqb_uniform(key, attempt, 0));
        double ratio = mqb_exp(log_ratio * (2 * (double)mqb_uniform(key, attempt, 1) - 1));
        double w = rint(sqrt(area * ratio)), h = rint(sqrt(area / ratio));
        if (w < 1 || h < 1 || w > width || h > height)
            continue;
        cols = (int32_t)w;
        rows = (int32_t)h;
        left = (int32_t)(mqb_uniform(key, attempt, 2) * (float)(width - cols + 1));
        top = (int32_t)(mqb_uniform(key, attempt, 3) * (float)(height - rows + 1));
        break;
    }
    if (cols == 0) { /* a very long picture: its middle, of the nearest ratio that is allowed */
        cols = width;
        rows = height;
        if ((int64_t)width * 4 < (int64_t)height * 3)
            rows = (int32_t)((int64_t)width * 4 / 3);
        else if ((int64_t)width * 3 > (int64_t)height * 4)
            cols = (int32_t)((int64_t)height * 4 / 3);
        left = (width - cols) / 2;
        top = (height - rows) / 2;
    }
    struct mqb_resize resize = {
        .height = rows,
        .width = cols,
        .channels = 3,
        .stride = (size_t)width * 3,
        .to_height = size,
        .to_width = size,
        .rows = size,
        .cols = size,
    };
    return mqb_resize(&resize, picture->rgb + (size_t)top * resize.stride + (size_t)left * 3, out, error);
}

mqb_status mqb_picture_fit(const struct mqb_picture *picture, int32_t size, bool augment, uint64_t key, uint8_t *out,
                           struct mqb_error *error)
{
    return augment ? fit_random(picture, size, key, out, error) : fit_whole(picture, size, out, error);
}
