/* doctor: what the operating system and the environment give this process. */
#include "backend/open.h"
#include "base/file.h"
#include "doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static const double MIB = 1 << 20;
static const double SHM_PER_RANK = 16.0 * (1 << 20); /* Open MPI takes 4 MiB and more, NCCL 10 */
enum { TMPDIR_MOST = 80, FILES_LEAST = 256, LINE = 4096 };

/* "0-3,8" -> 5; 0 where it is no such list. */
static int list_length(const char *s)
{
    int n = 0;
    while (*s >= '0' && *s <= '9') {
        char *end;
        long a = strtol(s, &end, 10), b = *end == '-' ? strtol(end + 1, &end, 10) : a;
        n += b >= a ? (int)(b - a + 1) : 0;
        s = *end == ',' ? end + 1 : end;
    }
    return n;
}

/* What follows `name` on its line of a file in /proc or /sys; "" where there is none. */
static void field_of(const char *path, const char *name, char out[LINE])
{
    char line[LINE];
    FILE *f = fopen(path, "r");
    *out = 0;
    while (f && !*out && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            (void)snprintf(out, LINE, "%s",
                           line + strlen(name) + strspn(line + strlen(name), " \t"));
    if (f)
        (void)fclose(f);
}

static double number_of(const char *path, const char *name)
{
    char text[LINE];
    field_of(path, name, text);
    return strtod(text, NULL);
}

int doctor_cores(void)
{
    char list[LINE];
    field_of("/proc/self/status", "Cpus_allowed_list:", list);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int n = list_length(list);
    return n > 0 ? n : online > 0 ? (int)online : 1;
}

static void check_processor(doctor *d)
{
    const char *lacks = backend_cpu_lacks();
    if (*lacks)
        doctor_missing(d, "processor",
                       "the program was compiled for %s, which this processor lacks, and would end "
                       "with SIGILL: compile it here, or with -DMEDDIFF_ARCH=x86-64-v3",
                       lacks);
    else
        doctor_ok(d, "processor", "has what the program was compiled for; %d of %ld cores",
                  doctor_cores(), sysconf(_SC_NPROCESSORS_ONLN));
}

/* The tightest limit of the control groups that this process is in, in bytes; 0: none is known. */
static double group_limit(void)
{
    char group[LINE], path[2 * LINE];
    field_of("/proc/self/cgroup", "0::", group);
    group[strcspn(group, "\n")] = 0;
    double least = number_of("/sys/fs/cgroup/memory/memory.limit_in_bytes", "");
    for (;;) { /* "max" is no number */
        (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        double here = number_of(path, "");
        least = here > 0 && (least <= 0 || here < least) ? here : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static void check_memory(doctor *d)
{
    double all = 1024 * number_of("/proc/meminfo", "MemTotal:");
    double left = 1024 * number_of("/proc/meminfo", "MemAvailable:"), limit = group_limit();
    struct rlimit space;
    char a[DOCTOR_SIZE], b[DOCTOR_SIZE];
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
        (limit <= 0 || (double)space.rlim_cur < limit))
        limit = (double)space.rlim_cur;
    if (limit > 0 && limit < all && config_int(d->cfg, KEY_memory_budget) == 0)
        doctor_warn(
            d, "memory",
            "this job may take %s of the machine's %s, and would plan with all of it: --set "
            "memory.budget=%.0f, divided by the workers of a node",
            doctor_size(a, limit), doctor_size(b, all), limit / MIB);
    else
        doctor_ok(d, "memory", "%s, %s of it free", doctor_size(a, all), doctor_size(b, left));
}

/* MPI's processes of one machine, and NCCL's, meet there. */
static void check_shm(doctor *d)
{
    struct statvfs s;
    char a[DOCTOR_SIZE], b[DOCTOR_SIZE];
    double wanted = SHM_PER_RANK * d->launch.size;
    if (statvfs("/dev/shm", &s) != 0 || access("/dev/shm", W_OK) != 0) {
        doctor_missing(d, "/dev/shm",
                       "%s: the processes of one machine meet there: mount -t tmpfs tmpfs /dev/shm",
                       strerror(errno));
        return;
    }
    double left = (double)s.f_bavail * (double)s.f_frsize;
    if (left < wanted)
        doctor_warn(d, "/dev/shm",
                    "%s free, MPI wants about %s for %d processes: docker run --shm-size=1g, or "
                    "mount -o remount,size=1g /dev/shm",
                    doctor_size(a, left), doctor_size(b, wanted), d->launch.size);
    else
        doctor_ok(d, "/dev/shm", "%s free", doctor_size(a, left));
}

static void check_tmpdir(doctor *d)
{
    const char *path = getenv("TMPDIR");
    if (!path || !*path)
        path = "/tmp";
    if (access(path, W_OK | X_OK) != 0)
        doctor_warn(d, "TMPDIR",
                    "%s: %s; MPI keeps its sessions there: set TMPDIR to a folder of this machine "
                    "that can be written",
                    path, strerror(errno));
    else if (strlen(path) > TMPDIR_MOST)
        doctor_warn(d, "TMPDIR",
                    "has %zu letters; where an MPI library keeps sockets in it (their paths may "
                    "have 107), mpirun fails: set TMPDIR to a short folder such as /tmp",
                    strlen(path));
    else
        doctor_ok(d, "TMPDIR", "%s", path);
}

static double limit_of(int resource)
{
    struct rlimit r;
    return getrlimit(resource, &r) == 0 && r.rlim_cur != RLIM_INFINITY ? (double)r.rlim_cur : 0;
}

static void check_limits(doctor *d)
{
    double seconds = limit_of(RLIMIT_CPU), files = limit_of(RLIMIT_NOFILE);
    const char *ends = getenv("SLURM_JOB_END_TIME");
    bool well = true;
    if (seconds > 0) {
        doctor_warn(d, "limits",
                    "a process ends after %.0f s of processor time (ulimit -t): raise it, or let "
                    "jobs run where there is no such limit",
                    seconds);
        well = false;
    }
    if (files > 0 && files < FILES_LEAST) {
        doctor_warn(d, "limits", "%.0f open files (ulimit -n): ulimit -n 1024 before the start",
                    files);
        well = false;
    }
    if (ends && *ends)
        doctor_note(d, "limits",
                    "Slurm ends this job in %.0f min; slurm/*.sbatch let it stop orderly ahead of "
                    "that and start again",
                    difftime((time_t)strtoll(ends, NULL, 10), time(NULL)) / 60);
    else if (well)
        doctor_ok(d, "limits", "no limit of time; %.0f open files", files);
}

void doctor_machine(doctor *d)
{
    check_processor(d);
    check_memory(d);
    check_shm(d);
    check_tmpdir(d);
    check_limits(d);
}
