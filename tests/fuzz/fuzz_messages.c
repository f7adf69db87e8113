/* libFuzzer target: framed messages and what the cluster reads from them. */
#include "cluster/messages.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cluster_msg_lease lease;
    static cluster_msg_end end;
    cluster_msg_result result;
    cluster_msg_beat beat;
    comm_frame f;
    int n = 0;
    volatile unsigned sum = 0;
    if (comm_frame_open(data, size, &f) != MD_OK)
        return 0;
    comm_frame copy = f;
    (void)!(cluster__get_beat(&copy, &beat));
    copy = f;
    (void)!(cluster__get_bye(&copy));
    copy = f;
    if (cluster__get_end(&copy, &end) == MD_OK)
        sum += (unsigned)end.text[0];
    copy = f;
    if (cluster__get_lease(&copy, &lease) == MD_OK)
        sum += (unsigned)lease.entry[lease.n - 1].index;
    copy = f;
    if (cluster__get_results(&copy, &n) == MD_OK)
        for (int i = 0; i < n && cluster__get_result(&copy, &result) == MD_OK; i++)
            for (size_t k = 0; k < result.size; k++)
                sum += result.payload[k];
    (void)sum;
    return 0;
}
