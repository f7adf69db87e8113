/* What the log says of memory. */
#ifndef MD_JOBS_MEMORY_H
#define MD_JOBS_MEMORY_H

/* The most that a process took, and all together, since the last call: "memory: WHAT: at most ...".
   Never fails a job. Collective(world). */
void memory_tell_stage(const char *what);
/* The same since the program began. */
void memory_tell_all(const char *what);

#endif
