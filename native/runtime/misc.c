/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls without lasting effect, or in a form that has none: queries in place of settings, the folder it is in already.
 */
#include "runtime.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>

#define SIGNAL_SET 8 /* bytes of the kernel's signal set */
#define PAGE 4096

/* On a timer that nobody waits for. */
static void timer_call(uint16_t nr)
{
	static _Thread_local int timer = -1;
	struct itimerspec later = {.it_value = {.tv_sec = 1000000000}};

	if (timer < 0)
		timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (nr == SYS_timerfd_settime)
		syscall(nr, timer, 0, &later, NULL);
	else
		syscall(nr, timer, &later);
}

/* On a page that nothing uses: it becomes accessible and inaccessible in turn, as heaps grow by; or keeps its place. */
static void memory_call(uint16_t nr)
{
	static _Alignas(PAGE) uint8_t spare[3 * PAGE];
	static _Thread_local int open = 1;

	if (nr == SYS_mremap) {
		syscall(nr, spare + PAGE, PAGE, PAGE, 0);
		return;
	}
	open = !open;
	syscall(nr, spare + PAGE, PAGE, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* Of a name that nothing has, or for one that there is: refused once it was looked up. */
static void folder_call(uint16_t nr)
{
	static const char nothing[] = "nothing", here[] = ".";

	switch (nr) {
	case SYS_symlink:
		syscall(nr, nothing, here);
		break;
	case SYS_mkdir:
		syscall(nr, here, 0700);
		break;
	case SYS_mkdirat:
		syscall(nr, AT_FDCWD, here, 0700);
		break;
	case SYS_renameat:
	case SYS_renameat2:
		syscall(nr, AT_FDCWD, nothing, AT_FDCWD, nothing, 0);
		break;
	case SYS_unlinkat:
	case SYS_fchmodat:
	case SYS_utimensat:
		syscall(nr, AT_FDCWD, nothing, NULL, 0);
		break;
	case SYS_rename:
	case SYS_link:
		syscall(nr, nothing, nothing);
		break;
	default:
		syscall(nr, nothing, -1, -1);
	}
}

/* To a local address that nobody has, as a log's that nobody keeps: a socket is made, refused and closed. */
static void refused_call(void)
{
	static const struct sockaddr_un nobody = {.sun_family = AF_UNIX, .sun_path = "nobody/listens"};
	int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	syscall(SYS_connect, fd, &nobody, sizeof(nobody));
	syscall(SYS_close, fd);
}

void misc_call(uint16_t nr)
{
	/* Large enough for whatever the kernel answers. */
	static _Thread_local union {
		struct timespec t;
		struct timeval tv;
		struct itimerval timer;
		struct rusage usage;
		struct utsname name;
		struct rlimit limit;
		struct statfs fs;
		struct sysinfo system;
		struct tms times;
		struct sched_param sched;
		stack_t stack;
		uint64_t words[128];
		char text[4096];
	} out;

	switch (nr) {
	case SYS_timerfd_settime:
	case SYS_timerfd_gettime:
		timer_call(nr);
		break;
	case SYS_clock_gettime:
	case SYS_clock_getres:
		syscall(nr, CLOCK_MONOTONIC, &out);
		break;
	case SYS_gettimeofday:
	case SYS_getcpu:
		syscall(nr, &out, NULL, NULL);
		break;
	case SYS_getrusage:
	case SYS_getitimer:
		syscall(nr, RUSAGE_SELF, &out);
		break;
	case SYS_uname:
	case SYS_sysinfo:
	case SYS_times:
		syscall(nr, &out);
		break;
	case SYS_rt_sigaction:
		syscall(nr, SIGUSR2, NULL, &out, SIGNAL_SET);
		break;
	case SYS_rt_sigprocmask:
		syscall(nr, SIG_BLOCK, NULL, &out, SIGNAL_SET);
		break;
	case SYS_sigaltstack:
		syscall(nr, NULL, &out);
		break;
	case SYS_setitimer: /* off */
		memset(&out.timer, 0, sizeof(out.timer));
		syscall(nr, ITIMER_PROF, &out, NULL);
		break;
	case SYS_alarm:
		syscall(nr, 0);
		break;
	case SYS_getcwd:
		syscall(nr, &out, sizeof(out));
		break;
	case SYS_chdir:
		syscall(nr, ".");
		break;
	case SYS_umask: /* twice would not be one call: what it sets is what the clone uses for all its files */
		syscall(nr, 022);
		break;
	case SYS_getpriority:
		syscall(nr, PRIO_PROCESS, 0);
		break;
	case SYS_getrlimit:
		syscall(nr, RLIMIT_NOFILE, &out);
		break;
	case SYS_prlimit64:
		syscall(nr, 0, RLIMIT_NOFILE, NULL, &out);
		break;
	case SYS_sched_getaffinity:
		syscall(nr, 0, sizeof(out.words), &out);
		break;
	case SYS_sched_getparam:
	case SYS_sched_getscheduler:
		syscall(nr, 0, &out);
		break;
	case SYS_statfs:
		syscall(nr, ".", &out);
		break;
	case SYS_getrandom:
		syscall(nr, &out, 16, GRND_NONBLOCK);
		break;
	case SYS_fcntl:
		syscall(nr, STDERR_FILENO, F_GETFL);
		break;
	case SYS_lseek: /* refused of pipes and sockets, and moves nothing in others */
		syscall(nr, STDERR_FILENO, 0, SEEK_CUR);
		break;
	case SYS_fstat:
		syscall(nr, STDERR_FILENO, &out);
		break;
	case SYS_kill: /* no signal, to its own group */
		syscall(nr, 0, 0);
		break;
	case SYS_mprotect:
	case SYS_mremap:
		memory_call(nr);
		break;
	case SYS_rename:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_link:
	case SYS_symlink:
	case SYS_unlink:
	case SYS_unlinkat:
	case SYS_mkdir:
	case SYS_mkdirat:
	case SYS_rmdir:
	case SYS_chmod:
	case SYS_fchmodat:
	case SYS_chown:
	case SYS_utimensat:
	case SYS_truncate:
		folder_call(nr);
		break;
	case SYS_brk:
	case SYS_time:
		syscall(nr, NULL);
		break;
	case SYS_getpid:
	case SYS_getppid:
	case SYS_gettid:
	case SYS_getuid:
	case SYS_geteuid:
	case SYS_getgid:
	case SYS_getegid:
	case SYS_getpgrp:
	case SYS_sched_yield:
		syscall(nr);
		break;
	case SYS_connect:
		refused_call();
		break;
	default:
		break; /* a profile that asks for others is answered with nothing */
	}
}

void pause_for(uint16_t nr, uint32_t microseconds)
{
	struct timespec t = {.tv_sec = microseconds / 1000000, .tv_nsec = (long)(microseconds % 1000000) * 1000};

	if (nr == SYS_clock_nanosleep)
		syscall(nr, CLOCK_MONOTONIC, 0, &t, NULL);
	else
		syscall(SYS_nanosleep, &t, NULL);
}
