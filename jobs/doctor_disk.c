/* doctor: the file system of the run directory: can it be written, locked, is there room, and does
   a store come out of it as every rank put it in? */
#include "base/file.h"
#include "base/str.h"
#include "comm/comm.h"
#include "doctor.h"
#include "store/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { EDGE = 64 }; /* of the small store's pictures */

/* The magic numbers of statfs(2) that people have a name for. */
static const char *file_system(const char *path)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{0x6969, "NFS"},        {0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"},
                 {0x19830326, "BeeGFS"}, {0xef53, "ext4"},       {0x58465342, "XFS"},
                 {0x9123683e, "Btrfs"},  {0x01021994, "tmpfs"},  {0x794c7630, "overlay"},
                 {0xff534d42, "CIFS"},   {0x65735546, "FUSE"},   {0x2fc12fc1, "ZFS"},
                 {0x00c36400, "CephFS"}};
    struct statfs s;
    if (statfs(path, &s) != 0)
        return "a file system";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((unsigned long)s.f_type == known[i].magic)
            return known[i].name;
    return "a file system";
}

/* The run directory, or the nearest folder above it that is there. */
static void find_place(doctor *d)
{
    const char *run = config_string(d->cfg, KEY_run);
    if (md_str_copy(d->place, sizeof d->place, *run ? run : ".") != MD_OK)
        (void)snprintf(d->place, sizeof d->place, ".");
    while (!md_file_exists(d->place)) {
        char *slash = strrchr(d->place, '/');
        if (!slash)
            (void)snprintf(d->place, sizeof d->place, ".");
        else
            slash[slash == d->place] = 0;
    }
}

static void check_room(doctor *d)
{
    struct statvfs s;
    char a[DOCTOR_SIZE], b[DOCTOR_SIZE];
    if (statvfs(d->place, &s) != 0) {
        doctor_warn(d, "room", "%s: %s", d->place, strerror(errno));
        return;
    }
    double left = (double)s.f_bavail * (double)s.f_frsize, wanted = (double)d->bytes;
    if (wanted > left)
        doctor_missing(d, "room",
                       "%s free on %s, the run takes about %s: set run to a larger disk, remove "
                       "what is not needed, or lower generate.pairs",
                       doctor_size(a, left), d->place, doctor_size(b, wanted));
    else if (d->asked)
        doctor_ok(d, "room", "%s free, the run takes about %s", doctor_size(a, left),
                  doctor_size(b, wanted));
    else
        doctor_ok(d, "room", "%s free; with CONFIG, what its run takes is compared",
                  doctor_size(a, left));
}

/* Of records: MPI-IO takes such locks on network file systems. */
static bool holds_record_locks(const char *folder)
{
    char path[DOCTOR_PATH];
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (md_path_join(path, sizeof path, folder, "lock") != MD_OK)
        return false;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool held = fd >= 0 && fcntl(fd, F_SETLK, &all) == 0;
    int why = errno;
    if (fd >= 0)
        (void)close(fd);
    errno = why;
    return held;
}

/* The lock that a run takes on its directory, here on scratch, which is kept for the other ranks to
   see until this process ends. */
static void check_locks(doctor *d)
{
    bool locked = false;
    int fd;
    md_status status = store_lock_directory(d->scratch, &fd);
    if (status == MD_OK)
        status = store_directory_is_locked(d->scratch, &locked);
    d->locks = status == MD_OK && locked;
    if (!d->locks)
        doctor_warn(d, "locks",
                    "%s keeps no locks (flock), so that two jobs in one run directory would not "
                    "notice each other: mount it with them (Lustre: -o flock; NFS: version 4, or "
                    "lockd), or see to it that one job at a time uses it",
                    file_system(d->place));
    else if (!holds_record_locks(d->scratch))
        doctor_warn(d, "locks",
                    "no record locks (fcntl) on this %s: %s; MPI-IO may ask for them on network "
                    "file systems: mount it with them, or set run to another",
                    file_system(d->place), strerror(errno));
    else
        doctor_ok(d, "locks", "the run directory can be locked (flock, fcntl)");
}

/* What HDF5 makes of it: TRUE and 1, BEST_EFFORT, FALSE and 0; it overrules the program. */
static void check_hdf5_locking(doctor *d)
{
    const char *v = getenv("HDF5_USE_FILE_LOCKING"), *best = "BEST_EFFORT";
    if (!v || !strcmp(v, "FALSE") || !strcmp(v, "0"))
        return;
    bool forced = !strcmp(v, "TRUE") || !strcmp(v, "1");
    if (forced && !d->locks)
        doctor_missing(d, "HDF5 locks",
                       "HDF5_USE_FILE_LOCKING=%s where the file system keeps no locks: no store "
                       "could be opened; unset it",
                       v);
    else if (forced || !strcmp(v, best))
        doctor_warn(d, "HDF5 locks",
                    "HDF5_USE_FILE_LOCKING=%s lets a reader (status, h5py) and a running job shut "
                    "each other out: unset it",
                    v);
    else
        doctor_warn(d, "HDF5 locks",
                    "HDF5_USE_FILE_LOCKING=%s means nothing to HDF5, which knows TRUE, FALSE and "
                    "BEST_EFFORT: unset it",
                    v);
}

void doctor_disk(doctor *d)
{
    char name[64];
    bool kept = false; /* a job that works there is not disturbed */
    find_place(d);
    (void)snprintf(name, sizeof name, ".meddiff-doctor.%ld", (long)getpid());
    if (md_path_join(d->scratch, sizeof d->scratch, d->place, name) != MD_OK ||
        md_dir_make(d->scratch) != MD_OK) {
        doctor_missing(d, "run", "%s; give yourself write permission, or set run to another folder",
                       md_status_text());
        *d->scratch = 0;
        return;
    }
    doctor_ok(d, "run", "%s can be written; it lies on %s", d->place, file_system(d->place));
    if (!strcmp(file_system(d->place), "tmpfs"))
        doctor_warn(d, "run",
                    "%s lies in memory and is gone when the machine starts anew: set run "
                    "to a disk for what shall stay",
                    d->place);
    if (store_directory_is_locked(d->place, &kept) == MD_OK && kept)
        doctor_note(d, "run", "a job works in %s; another start there would be refused", d->place);
    check_room(d);
    check_locks(d);
    check_hdf5_locking(d);
}

/* ---- the small store: one row for each rank */

static const store_column columns[] = {
    {.name = "pixels", .type = STORE_U8, .ndim = 2, .dim = {EDGE, EDGE}, .pixels = true}};

static void fill(uint8_t pixels[EDGE * EDGE], int rank)
{
    for (int i = 0; i < EDGE * EDGE; i++)
        pixels[i] = (uint8_t)(i * 7 + rank);
}

/* As a worker writes: through MPI-IO where MPI runs, synced. */
static md_status write_row(const char *path, int rank)
{
    uint8_t pixels[EDGE * EDGE];
    store_table *t = NULL;
    fill(pixels, rank);
    MD_TRY(store_open(path, "doctor", columns, 1, STORE_WRITE, &t));
    md_status status = store_write(t, 0, rank, 1, pixels);
    if (status == MD_OK)
        status = store_sync(t);
    store_close(t);
    return status;
}

static md_status read_rows(const char *path, int size)
{
    uint8_t got[EDGE * EDGE], wanted[EDGE * EDGE];
    store_table *t = NULL;
    MD_TRY(store_open(path, "doctor", columns, 1, STORE_READ, &t));
    md_status status = MD_OK;
    for (int r = 0; r < size && status == MD_OK; r++) {
        fill(wanted, r);
        status = store_read(t, 0, r, 1, got);
        if (status == MD_OK && memcmp(got, wanted, sizeof got) != 0)
            status = md_fail(MD_IO, __FILE__, __LINE__, "what rank %d wrote reads otherwise", r);
    }
    store_close(t);
    return status;
}

/* Every rank's step, then one outcome for all. */
static md_status together(const doctor *d, md_status status)
{
    return d->mpi ? comm_agree(comm_world(), status) : status;
}

static md_status try_store(const doctor *d, const char *path)
{
    int rank = d->mpi ? comm_rank(comm_world()) : 0, size = d->mpi ? comm_size(comm_world()) : 1;
    MD_TRY(together(d, rank == 0 ? store_make(path, "doctor", columns, 1, size, NULL, 0) : MD_OK));
    MD_TRY(together(d, write_row(path, rank)));
    return together(d, rank == 0 ? read_rows(path, size) : MD_OK);
}

void doctor_stores(doctor *d)
{
    char library[64], path[DOCTOR_PATH];
    if (!d->mpi && !d->prints)
        return;
    if (store_library(library, sizeof library) != MD_OK) {
        doctor_missing(d, "HDF5", "%s", md_status_text());
        return;
    }
    if (!*d->scratch)
        return;
    md_status status = md_path_join(path, sizeof path, d->scratch, "probe.h5");
    if (status == MD_OK)
        status = try_store(d, path);
    if (status != MD_OK)
        doctor_missing(d, "HDF5",
                       "%s, but no store comes about: %s; set run to a local disk to see whether "
                       "it is the file system",
                       library, md_status_text());
    else
        doctor_ok(d, "HDF5", "%s; a store was made, written%s and read", library,
                  d->mpi ? " through MPI-IO by every rank" : "");
}

void doctor_clean(doctor *d)
{
    static const char *const names[] = {"probe.h5", "lock", ""};
    char path[DOCTOR_PATH];
    for (size_t i = 0; *d->scratch && i < sizeof names / sizeof *names; i++)
        if (!*names[i] ? rmdir(d->scratch) != 0
                       : md_path_join(path, sizeof path, d->scratch, names[i]) != MD_OK ||
                             md_file_remove(path) != MD_OK)
            doctor_warn(d, "run", "%s is left behind: remove it", d->scratch);
}
