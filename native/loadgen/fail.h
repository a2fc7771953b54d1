/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOADGEN_FAIL_H
#define LOADGEN_FAIL_H

/* Prints one line and ends the program with exit code 2. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
