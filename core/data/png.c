/* png.c - PNG to RGB with libpng. Its errors come by longjmp; the frame that is jumped to holds nothing but `struct reader`. */
#include "data/source.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>

struct reader {
    png_structp png;
    png_infop info;
    jmp_buf back;
    char text[128];
    const uint8_t *next;
    size_t left;
    png_bytep *rows;
    mqb_status status;
    struct mqb_error *error;
};

static void give_up(png_structp png, png_const_charp text)
{
    struct reader *reader = png_get_error_ptr(png);
    snprintf(reader->text, sizeof reader->text, "%s", text);
    longjmp(reader->back, 1);
}

static void warn(png_structp png, png_const_charp text)
{
    (void)png, (void)text;
}

static void read_bytes(png_structp png, png_bytep out, size_t size)
{
    struct reader *reader = png_get_io_ptr(png);
    if (size > reader->left)
        png_error(png, "the file ends too early");
    memcpy(out, reader->next, size);
    reader->next += size;
    reader->left -= size;
}

static mqb_status decode(struct reader *reader, struct mqb_picture *picture)
{
    png_structp png = reader->png;
    png_set_read_fn(png, reader, read_bytes);
    png_set_user_limits(png, 65535, 65535);
    png_read_info(png, reader->info);
    /* Whatever it is, 8-bit RGB comes out; no gamma is applied, as elsewhere in training networks. */
    png_set_expand(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, reader->info);
    size_t height = png_get_image_height(png, reader->info), width = png_get_image_width(png, reader->info);
    mqb_status status = mqb_picture_init(picture, width, height, reader->error);
    if (status != MQB_OK)
        return status;
    if (png_get_rowbytes(png, reader->info) != width * 3)
        return mqb_fail(reader->error, MQB_ERR_UNSUPPORTED, "is a PNG that cannot be turned into 8-bit RGB; convert it");
    reader->rows = mqb_allocate_array(height, sizeof *reader->rows);
    if (reader->rows == NULL)
        return mqb_fail(reader->error, MQB_ERR_MEMORY, "no memory for the rows of a picture");
    for (size_t y = 0; y < height; y++)
        reader->rows[y] = picture->rgb + y * width * 3;
    png_read_image(png, reader->rows);
    png_read_end(png, NULL);
    return MQB_OK;
}

mqb_status mqb_picture_from_png(const uint8_t *data, size_t size, struct mqb_picture *picture, struct mqb_error *error)
{
    struct reader reader = {.next = data, .left = size, .error = error};
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, give_up, warn);
    reader.info = reader.png == NULL ? NULL : png_create_info_struct(reader.png);
    if (reader.info == NULL)
        reader.status = mqb_fail(error, MQB_ERR_MEMORY, "libpng cannot start (no memory)");
    else if (setjmp(reader.back) == 0)
        reader.status = decode(&reader, picture);
    else
        reader.status = mqb_fail(error, MQB_ERR_FORMAT,
                                 "cannot be decoded as PNG (%s); the file is damaged, replace or remove it", reader.text);
    if (reader.png != NULL)
        png_destroy_read_struct(&reader.png, &reader.info, NULL);
    mqb_deallocate(reader.rows);
    return reader.status;
}
