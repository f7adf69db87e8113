#include "backend/cuda/dnn.h"
#include <string.h>

enum { MAX_OFFERS = 64, FALLBACK_OFFERS = 1000 };

/* What cuDNN calls unsupported is ours to work around; the rest are errors. */
static md_status check(cudnnStatus_t s, const char *call, int line)
{
    if (s == CUDNN_STATUS_SUCCESS)
        return MD_OK;
    if (CUDNN_STATUS_CATEGORY((int)s) == CUDNN_STATUS_NOT_SUPPORTED)
        return md_fail(MD_UNSUPPORTED, __FILE__, line, "%s: %s", call, cudnnGetErrorString(s));
    return cuda__cudnn_fail(s, call, __FILE__, line);
}

md_status dnn__make(dnn *g, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    if (g->n_made == DNN_MAX_DESCRIPTORS)
        MD_FAIL(MD_INTERNAL, "cuDNN graph: more than %d descriptors", DNN_MAX_DESCRIPTORS);
    cudnnBackendDescriptor_t desc = NULL;
    MD_TRY(
        check(cudnnBackendCreateDescriptor(type, &desc), "cudnnBackendCreateDescriptor", __LINE__));
    *out = g->made[g->n_made++] = desc;
    return MD_OK;
}

md_status dnn__set(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    md_status s = check(cudnnBackendSetAttribute(desc, name, type, count, values),
                        "cudnnBackendSetAttribute", __LINE__);
    return s == MD_OK ? s : md_context(s, "cuDNN attribute %d", (int)name);
}

md_status dnn__set_descriptor(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                              cudnnBackendDescriptor_t value)
{
    return dnn__set(desc, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

md_status dnn__finalize(cudnnBackendDescriptor_t desc)
{
    return check(cudnnBackendFinalize(desc), "cudnnBackendFinalize", __LINE__);
}

md_status dnn__tensor(dnn *g, int place, cudnnDataType_t type, int64_t alignment,
                      const int64_t dim[4], const int64_t stride[4], cudnnBackendDescriptor_t *out)
{
    if (g->n_tensors == DNN_MAX_TENSORS)
        MD_FAIL(MD_INTERNAL, "cuDNN graph: more than %d tensors", DNN_MAX_TENSORS);
    cudnnBackendDescriptor_t t;
    MD_TRY(dnn__make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, &t));
    g->place[g->n_tensors] = place;
    g->alignment[g->n_tensors] = alignment;
    int64_t id = ++g->n_tensors;
    const bool yes = true;
    MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id));
    MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment));
    MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim));
    MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride));
    if (place == DNN_VIRTUAL)
        MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes));
    if (place >= DNN_VALUE && place < DNN_PART)
        MD_TRY(dnn__set(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes));
    MD_TRY(dnn__finalize(t));
    *out = t;
    return MD_OK;
}

md_status dnn__part(dnn *g, size_t bytes, int *place)
{
    if (g->n_parts == DNN_MAX_PARTS)
        MD_FAIL(MD_INTERNAL, "cuDNN graph: more than %d parts", DNN_MAX_PARTS);
    g->part[g->n_parts] = g->part_bytes;
    g->part_bytes += (bytes + CUDA_SCRATCH_ALIGN - 1) / CUDA_SCRATCH_ALIGN * CUDA_SCRATCH_ALIGN;
    *place = DNN_PART + g->n_parts++;
    return MD_OK;
}

md_status dnn__add_op(dnn *g, cudnnBackendDescriptor_t op)
{
    if (g->n_ops == DNN_MAX_OPS)
        MD_FAIL(MD_INTERNAL, "cuDNN graph: more than %d operations", DNN_MAX_OPS);
    MD_TRY(dnn__finalize(op));
    g->ops[g->n_ops++] = op;
    return MD_OK;
}

/* ---- engines */

static void destroy(cudnnBackendDescriptor_t *desc)
{
    if (*desc)
        (void)cudnnBackendDestroyDescriptor(*desc);
    *desc = NULL;
}

static void drop_plan(dnn_plan *p)
{
    destroy(&p->plan);
    destroy(&p->config);
}

/* Notes by which an engine is refused. f32 is computed on tensor cores only as TF32, which keeps 10
   bits; the large Winograd tiles lose as many to cancellation. */
static uint64_t refused_notes(const cuda_impl *d, const md_node *node)
{
    uint64_t refused = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (d->options.deterministic)
        refused |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    if (node->in[0]->dtype != MD_F32)
        return refused;
    refused |= 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 |
               1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    if (!d->options.tf32)
        refused |=
            1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    return refused;
}

static md_status read_notes(cudnnBackendDescriptor_t config, uint64_t *notes)
{
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    MD_TRY(check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine),
                 "cudnnBackendCreateDescriptor", __LINE__));
    md_status status =
        check(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine),
              "cudnnBackendGetAttribute(engine)", __LINE__);
    if (status == MD_OK)
        status = check(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                CUDNN_TYPE_NUMERICAL_NOTE,
                                                CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, note),
                       "cudnnBackendGetAttribute(numerical notes)", __LINE__);
    for (int64_t i = 0; status == MD_OK && i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        *notes |= (uint64_t)1 << note[i];
    destroy(&engine);
    return status;
}

static md_status finalize_plan(dnn *g, dnn_plan *p)
{
    int64_t n = 0, workspace = 0;
    MD_TRY(check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan),
                 "cudnnBackendCreateDescriptor", __LINE__));
    MD_TRY(dnn__set(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->d->cudnn));
    MD_TRY(dnn__set_descriptor(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, p->config));
    MD_TRY(dnn__finalize(p->plan));
    MD_TRY(check(cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                          CUDNN_TYPE_INT64, 1, &n, &workspace),
                 "cudnnBackendGetAttribute(workspace)", __LINE__));
    p->workspace = g->part_bytes + (size_t)workspace;
    return MD_OK;
}

/* Moves `config` into plans[] if it may run. An engine that cannot be built is passed over, as the
   heuristics' lists are guesses; lack of memory is an error. */
static md_status take_offer(dnn *g, const md_node *node, cudnnBackendDescriptor_t *config,
                            int64_t offer)
{
    uint64_t notes = 0;
    MD_TRY(read_notes(*config, &notes));
    if (notes & refused_notes(g->d, node))
        return MD_OK;
    dnn_plan p = {.config = *config, .offer = offer};
    *config = NULL;
    md_status status = finalize_plan(g, &p);
    if (status == MD_OK && cuda__workspace_fits(g->d, p.workspace)) {
        g->plans[g->n_plans++] = p;
        return MD_OK;
    }
    drop_plan(&p);
    if (status == MD_NOMEM)
        return status;
    md_status_clear();
    return MD_OK;
}

/* The heuristics' list for the graph; configs[] are the caller's to destroy, on failure too. */
static md_status list_offers(cudnnBackendDescriptor_t heuristics,
                             cudnnBackendDescriptor_t configs[MAX_OFFERS], int64_t *n)
{
    int64_t count = 0;
    *n = 0;
    MD_TRY(check(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, NULL),
                 "cudnnBackendGetAttribute(number of engines)", __LINE__));
    if (count > MAX_OFFERS)
        count = MAX_OFFERS;
    for (int64_t i = 0; i < count; i++)
        MD_TRY(check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]),
                     "cudnnBackendCreateDescriptor", __LINE__));
    if (count > 0)
        MD_TRY(check(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, count, n, configs),
                     "cudnnBackendGetAttribute(engines)", __LINE__));
    return MD_OK;
}

static md_status ask(cudnnBackendDescriptor_t heuristics, cudnnBackendDescriptor_t graph,
                     cudnnBackendHeurMode_t mode)
{
    MD_TRY(dnn__set_descriptor(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    MD_TRY(dnn__set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    return dnn__finalize(heuristics);
}

/* Fills plans[] from one of the heuristics' lists; `only` >= 0: from that offer alone. */
static md_status take_offers(dnn *g, const md_node *node, cudnnBackendDescriptor_t graph,
                             cudnnBackendHeurMode_t mode, int64_t only)
{
    cudnnBackendDescriptor_t heuristics = NULL, configs[MAX_OFFERS] = {0};
    int64_t n = 0, first = mode == CUDNN_HEUR_MODE_FALLBACK ? FALLBACK_OFFERS : 0;
    MD_TRY(check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics),
                 "cudnnBackendCreateDescriptor", __LINE__));
    md_status status = ask(heuristics, graph, mode);
    if (status == MD_OK)
        status = list_offers(heuristics, configs, &n);
    for (int64_t i = 0; status == MD_OK && i < n && g->n_plans < DNN_MAX_PLANS; i++)
        if (only < 0 || only == first + i)
            status = take_offer(g, node, &configs[i], first + i);
    for (int i = 0; i < MAX_OFFERS; i++)
        destroy(&configs[i]);
    destroy(&heuristics);
    if (status != MD_UNSUPPORTED)
        return status;
    md_status_clear(); /* an empty list by another name */
    return MD_OK;
}

static md_status take_any(dnn *g, const md_node *node, cudnnBackendDescriptor_t graph, int64_t only)
{
    MD_TRY(take_offers(g, node, graph, CUDNN_HEUR_MODE_A, only));
    if (g->n_plans == 0)
        MD_TRY(take_offers(g, node, graph, CUDNN_HEUR_MODE_FALLBACK, only));
    return MD_OK;
}

static md_status run_candidate(void *user, int candidate, void *const *in, void *const *out,
                               void *scratch)
{
    return dnn__run(user, candidate, in, out, scratch);
}

/* Leaves the fastest plan alone in plans[]. */
static md_status keep_fastest(dnn *g, const md_node *node, const char *question)
{
    cuda_candidates c = {.n = g->n_plans, .node = node, .run = run_candidate, .user = g};
    int best = 0;
    for (int i = 0; i < g->n_plans; i++)
        if (g->plans[i].workspace > c.workspace)
            c.workspace = g->plans[i].workspace;
    MD_TRY(cuda__choose(g->d, &c, &best));
    destroy(&g->pack); /* it held the trial's addresses */
    dnn_plan p = g->plans[best];
    g->plans[best] = g->plans[0];
    g->plans[0] = p;
    while (g->n_plans > 1)
        drop_plan(&g->plans[--g->n_plans]);
    if (cuda__choice_is_timed(g->d))
        cuda__tuning_keep(g->d, question, p.offer);
    return MD_OK;
}

md_status dnn__plan(dnn *g, const md_node *node, const char *question)
{
    cudnnBackendDescriptor_t graph;
    MD_TRY(dnn__make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph));
    MD_TRY(dnn__set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->d->cudnn));
    MD_TRY(dnn__set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_ops,
                    g->ops));
    /* A pattern that cuDNN does not know may be BAD_PARAM as well as NOT_SUPPORTED: 9.19 says the
       former of its attention backward. */
    cudnnStatus_t s = cudnnBackendFinalize(graph);
    if (CUDNN_STATUS_CATEGORY((int)s) == CUDNN_STATUS_BAD_PARAM ||
        CUDNN_STATUS_CATEGORY((int)s) == CUDNN_STATUS_NOT_SUPPORTED)
        return MD_OK;
    MD_TRY(check(s, "cudnnBackendFinalize(graph)", __LINE__));
    int64_t known = cuda__choice_is_timed(g->d) ? cuda__tuning_find(g->d, question) : -1;
    if (known >= 0)
        MD_TRY(take_any(g, node, graph, known));
    if (g->n_plans == 1)
        return MD_OK;
    MD_TRY(take_any(g, node, graph, -1)); /* unknown, or no longer offered */
    return g->n_plans == 0 ? MD_OK : keep_fastest(g, node, question);
}

/* ---- execution */

static void *address_of(dnn *g, int place, void *const *in, void *const *out, char *workspace)
{
    if (place < DNN_OUT)
        return in[place - DNN_IN];
    if (place < DNN_VALUE)
        return out[place - DNN_OUT];
    if (place < DNN_PART)
        return &g->value[place - DNN_VALUE];
    return workspace + g->part[place - DNN_PART];
}

/* A finalized variant pack cannot be changed, so one is made whenever an address is new; a plan's
   addresses stay, so that is the first run. */
static md_status make_pack(dnn *g, void *const *address, void *workspace)
{
    int64_t id[DNN_MAX_TENSORS], n = 0;
    void *pointer[DNN_MAX_TENSORS];
    for (int i = 0; i < g->n_tensors; i++) {
        if (g->place[i] == DNN_VIRTUAL)
            continue;
        if (((uintptr_t)address[i] & (uintptr_t)(g->alignment[i] - 1)) != 0)
            MD_FAIL(MD_INTERNAL, "tensor at %p is not a multiple of %lld, as its place promised",
                    address[i], (long long)g->alignment[i]);
        id[n] = i + 1;
        pointer[n++] = address[i];
    }
    destroy(&g->pack);
    cudnnBackendDescriptor_t p = NULL;
    MD_TRY(check(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &p),
                 "cudnnBackendCreateDescriptor", __LINE__));
    md_status status;
    MD_TRY_GOTO(dnn__set(p, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id), fail);
    MD_TRY_GOTO(dnn__set(p, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointer),
                fail);
    MD_TRY_GOTO(dnn__set(p, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace),
                fail);
    MD_TRY_GOTO(dnn__finalize(p), fail);
    g->pack = p;
    return MD_OK;
fail:
    destroy(&p);
    return status;
}

md_status dnn__run(dnn *g, int which, void *const *in, void *const *out, void *scratch)
{
    void *address[DNN_MAX_TENSORS + 1] = {0};
    char *workspace = scratch ? cuda__workspace_at(scratch) : NULL;
    for (int i = 0; i < g->n_tensors; i++)
        if (g->place[i] != DNN_VIRTUAL)
            address[i] = address_of(g, g->place[i], in, out, workspace);
    address[DNN_MAX_TENSORS] = workspace ? workspace + g->part_bytes : NULL;
    if (!g->pack || memcmp(address, g->address, sizeof address) != 0) {
        MD_TRY(make_pack(g, address, address[DNN_MAX_TENSORS]));
        memcpy(g->address, address, sizeof address);
    }
    CUDNN_TRY(cudnnBackendExecute(g->d->cudnn, g->plans[which].plan, g->pack));
    return MD_OK;
}

void dnn__close(dnn *g)
{
    destroy(&g->pack);
    while (g->n_plans > 0)
        drop_plan(&g->plans[--g->n_plans]);
    while (g->n_made > 0)
        destroy(&g->made[--g->n_made]);
    g->n_ops = g->n_tensors = g->n_parts = 0;
    g->part_bytes = 0;
}
