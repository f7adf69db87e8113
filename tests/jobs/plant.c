/* plant: preloaded into meddiff, makes the machine one with the faults of PLANT, a list of words:
   flock, fcntl (a file system without such locks), hdf5 (another version is loaded), allocate (a
   full disk). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

static int planted(const char *fault)
{
    const char *list = getenv("PLANT");
    return list && strstr(list, fault) != NULL;
}

int flock(int fd, int operation)
{
    int (*next)(int, int) = 0;
    void *symbol = dlsym(RTLD_NEXT, "flock");
    memcpy(&next, &symbol, sizeof next);
    if (planted("flock")) {
        errno = ENOLCK;
        return -1;
    }
    return next(fd, operation);
}

static int control(const char *name, int fd, int command, void *argument)
{
    int (*next)(int, int, ...) = 0;
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(&next, &symbol, sizeof next);
    if (planted("fcntl") && (command == F_SETLK || command == F_SETLKW)) {
        errno = ENOLCK;
        return -1;
    }
    return next(fd, command, argument);
}

int fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    return control("fcntl", fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    return control("fcntl64", fd, command, argument);
}

int posix_fallocate(int fd, off_t offset, off_t n)
{
    int (*next)(int, off_t, off_t) = 0;
    void *symbol = dlsym(RTLD_NEXT, "posix_fallocate");
    memcpy(&next, &symbol, sizeof next);
    return planted("allocate") ? ENOSPC : next(fd, offset, n);
}

int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release);

int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release)
{
    int (*next)(unsigned *, unsigned *, unsigned *) = 0;
    void *symbol = dlsym(RTLD_NEXT, "H5get_libversion");
    memcpy(&next, &symbol, sizeof next);
    int rc = next(major, minor, release);
    if (planted("hdf5"))
        ++*release;
    return rc;
}
