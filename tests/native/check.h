/* The smallest frame for tests in C: CHECK ends the program with the line and the values; RUN names what
 * runs. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s: not true: %s (errno %s)\n", __FILE__, __LINE__, __func__,            \
                    #condition, strerror(errno));                                                            \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_EQ(got, wanted)                                                                                \
    do {                                                                                                     \
        long long got_ = (long long)(got), wanted_ = (long long)(wanted);                                    \
        if (got_ != wanted_) {                                                                               \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #got, got_,   \
                    wanted_);                                                                                \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define RUN(test)                                                                                            \
    do {                                                                                                     \
        fprintf(stderr, "  %s\n", #test);                                                                    \
        test();                                                                                              \
    } while (0)

#endif
