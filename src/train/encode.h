/* The encoder's task: to know a procedural picture again after what makes a near copy, and to tell
   it from others (instance discrimination with the NT-Xent loss: Chen et al. 2020, SimCLR,
   arXiv:2002.05709). No head: the class token itself is compared, as assessment does. */
#ifndef MD_TRAIN_ENCODE_H
#define MD_TRAIN_ENCODE_H

#include "model/dino.h"
#include "model/preprocess.h"
#include "train/step.h"

enum { ENCODE_QUARTERS = 4, ENCODE_GROUP_STEP = 8 };

typedef struct encode {
    const dino_config *config; /* image_size is the edge of what it sees */
    const preprocess *input;   /* mean and deviation of a channel */
    nn_params *params;
    md_dtype dtype;
    uint64_t seed;
    int64_t batch;      /* groups per step, over all workers */
    int64_t group;      /* views that are told apart, a multiple of ENCODE_GROUP_STEP */
    double temperature; /* of the softmax over cosines */

    md_tensor *image, *weight; /* inputs of the last graph built */
} encode;

/* A sample is a group of K = `group` motifs, each seen in two views a_i and b_i of length one; with
   s_ij = a_i.b_j / temperature
     L = 1/(2K) sum_i (log sum_j exp s_ij + log sum_j exp s_ji - 2 s_ii),
   so that what a motif is told apart from does not depend on batch or workers, and losses of groups
   add up as those of any other task. Half of the motifs are whole
   pictures. The others are quarters of pictures, each cut out along an outline of its own and laid
   on another picture in every view: what tells the four quarters of a picture apart is neither the
   style nor what lies around. `e` must outlive the task. */
train_task encode_task(encode *e);

/* The pictures of group `item`, 128 x 128 RGB, for encode_view; the caller frees them. */
MD_MUST md_status encode_pictures(const encode *e, uint64_t item, uint8_t **out);
/* View 0 or 1 of motif `index` of group `item`: out [edge,edge,3] in 0..1, before mean and
   deviation. A turn, a zoom, a mirror image, another picture around a cut motif, light, blur and
   noise. A pure function of its arguments; scratch is as large as out. */
void encode_view(const encode *e, const uint8_t *pictures, uint64_t item, int64_t index, int view,
                 float *out, float *scratch);

#endif
