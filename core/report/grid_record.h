/* grid_record.h - the result record of a cell: where it is kept, what a table reads of it, and whether it answers what was asked. */
#ifndef MQB_GRID_RECORD_H
#define MQB_GRID_RECORD_H

#include "report/grid.h"

/* The name says all that tells the cells of a grid apart. NULL: no memory. */
char *mqb_cell_path(const struct mqb_grid_config *config, const struct mqb_cell *cell);
mqb_status mqb_cell_set_reason(struct mqb_cell *cell, const char *reason, struct mqb_error *error);
/* Fills the cell from the text of a record; false if it is none. */
bool mqb_cell_read(struct mqb_cell *cell, const char *text, size_t size, struct mqb_error *error, mqb_status *status);
/* Fills the cell from the record at `path`, if there is one. A record of another network, other images, or of another value of
 * anything that the words of this comparison name, is refused; what they leave open is as the record has it. model_sha256: of the network's file, or "". */
mqb_status mqb_cell_take(const struct mqb_grid_config *config, const char *model_sha256, struct mqb_cell *cell, const char *path,
                         struct mqb_error *error);
/* A setting of another cell's backend or algorithm is none of this cell's. */
bool mqb_cell_foreign(const struct mqb_grid_config *config, const struct mqb_cell *cell, const char *key);

#endif
