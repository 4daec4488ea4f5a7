/* jpeg.c - JPEG to RGB with libjpeg. Its errors come by longjmp; the frame that is jumped to holds nothing but `struct reader`.
 */
#include "data/source.h"

#include <setjmp.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

struct reader {
    struct jpeg_error_mgr manager; /* first: libjpeg hands back a pointer to it */
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
    struct jpeg_decompress_struct jpeg;
    mqb_status status;
    struct mqb_error *error;
};

static void give_up(j_common_ptr jpeg)
{
    struct reader *reader = (struct reader *)jpeg->err;
    reader->manager.format_message(jpeg, reader->text);
    longjmp(reader->back, 1);
}

/* Of the warnings, a picture that ends too early is an error here: half of it would be grey. The rest is harmless. */
static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0 && (jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JWRN_HIT_MARKER))
        give_up(jpeg);
}

static mqb_status decode(struct reader *reader, const uint8_t *data, size_t size, struct mqb_picture *picture)
{
    struct jpeg_decompress_struct *jpeg = &reader->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, data, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return mqb_fail(reader->error, MQB_ERR_UNSUPPORTED, "is a CMYK JPEG, expected RGB or grey; convert it or remove it");
    jpeg->out_color_space = JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW; /* the exact one: what other decoders give as well */
    mqb_status status = mqb_picture_init(picture, jpeg->image_width, jpeg->image_height, reader->error);
    if (status != MQB_OK)
        return status;
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = picture->rgb + (size_t)jpeg->output_scanline * jpeg->output_width * 3;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return MQB_OK;
}

mqb_status mqb_picture_from_jpeg(const uint8_t *data, size_t size, struct mqb_picture *picture, struct mqb_error *error)
{
    struct reader reader = {.error = error};
    reader.jpeg.err = jpeg_std_error(&reader.manager);
    reader.manager.error_exit = give_up;
    reader.manager.emit_message = warn;
    if (setjmp(reader.back) == 0)
        reader.status = decode(&reader, data, size, picture);
    else
        reader.status = mqb_fail(error, MQB_ERR_FORMAT,
                                 "cannot be decoded as JPEG (%s); the file is damaged, replace or remove it", reader.text);
    jpeg_destroy_decompress(&reader.jpeg);
    return reader.status;
}
