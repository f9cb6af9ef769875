/* Pointers that are no memory, given to every call that takes one: EFAULT, and the process lives on. */
#include "twin.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <termios.h>

static const long hostile[] = {8, 0x7fffffffffff, (long)0x8000000000000000, (long)0xffffffff80000000, -8, (long)0xffff888000000000};

#define EACH(...)                                                                                                      \
	do {                                                                                                           \
		for (unsigned i = 0; i < sizeof hostile / sizeof *hostile; i++) {                                      \
			void *bad = (void *)hostile[i];                                                                \
			errno = 0;                                                                                     \
			long result = (long)(__VA_ARGS__);                                                             \
			printf("%s %ld %s\n", i == 0 ? #__VA_ARGS__ "\n " : " ", result,                               \
			       result == -1 ? strerrorname_np(errno) : "");                                            \
		}                                                                                                      \
	} while (0)

int main(void)
{
	char good[256] = "/tmp";
	int pipes[2], file;

	enter_folder("hostile");
	file = open("file", O_CREAT | O_RDWR, 0644);
	pipe(pipes);
	write(pipes[1], "text", 4);
	write(file, "text", 4);
	EACH(read(file, bad, 0));
	EACH(pread(file, bad, 4, 0));
	EACH(read(pipes[0], bad, 4));
	EACH(write(file, bad, 4));
	EACH(write(pipes[1], bad, 4));
	EACH(writev(file, bad, 1));
	EACH(readv(file, bad, 1));
	EACH(open(bad, O_RDONLY));
	EACH(stat(bad, (struct stat *)good));
	EACH(stat("/", bad));
	EACH(fstat(file, bad));
	EACH(access(bad, 0));
	EACH(chdir(bad));
	EACH(mkdir(bad, 0));
	EACH(rename(bad, "x"));
	EACH(rename("file", bad));
	EACH(link("file", bad));
	EACH(symlink(bad, "x"));
	EACH(readlink(bad, good, 1));
	EACH(readlink("/proc/self", bad, 10));
	EACH(unlink(bad));
	EACH(chmod(bad, 0));
	EACH(truncate(bad, 0));
	EACH(syscall(SYS_getcwd, bad, 100));
	EACH(syscall(SYS_getdents64, open(".", O_RDONLY), bad, 1000));
	EACH(pipe(bad));
	EACH(poll(bad, 1, 0));
	EACH(select(1, bad, NULL, NULL, NULL));
	EACH(wait4(-1, NULL, WNOHANG, bad));
	EACH(uname(bad));
	EACH(sysinfo(bad));
	EACH(syscall(SYS_times, bad));
	EACH(getrlimit(RLIMIT_CPU, bad));
	EACH(setrlimit(RLIMIT_CPU, bad));
	EACH(getrusage(RUSAGE_SELF, bad));
	EACH(syscall(SYS_gettimeofday, bad, NULL));
	EACH(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad));
	EACH(syscall(SYS_nanosleep, bad, NULL));
	EACH(syscall(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8));
	EACH(syscall(SYS_rt_sigaction, SIGUSR1, NULL, bad, 8));
	EACH(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8));
	EACH(syscall(SYS_rt_sigpending, bad, 8));
	EACH(syscall(SYS_rt_sigsuspend, bad, 8));
	EACH(sigaltstack(bad, NULL));
	EACH(getitimer(ITIMER_REAL, bad));
	EACH(setitimer(ITIMER_REAL, bad, NULL));
	EACH(syscall(SYS_getgroups, 10, bad));
	EACH(syscall(SYS_getresuid, bad, good, good));
	EACH(statfs("/", bad));
	EACH(syscall(SYS_utimensat, AT_FDCWD, "file", bad, 0));
	EACH(syscall(SYS_getrandom, bad, 16, 0));
	EACH(syscall(SYS_futex, bad, 0, 1, NULL, NULL, 0));
	EACH(syscall(SYS_pselect6, 0, NULL, NULL, NULL, bad, NULL));
	EACH(ioctl(open("/dev/tty", O_RDWR | O_NOCTTY), TCGETS, bad));
	EACH(syscall(SYS_execve, bad, NULL, NULL));
	EACH(syscall(SYS_arch_prctl, 0x1003, bad));
	EACH(syscall(SYS_sched_getaffinity, 0, 128, bad) > 0 ? 1 : -1);
	/* A stack pointer that is no memory, and a signal: killed, not stuck. */
	signal(SIGUSR1, (void (*)(int))(void *)abs);
	show_status("bad stack", CHILD(__asm__ volatile("mov $8, %%rsp; mov $39, %%eax; syscall; mov %%eax, %%edi; mov $10, %%esi; "
							"mov $62, %%eax; syscall; hlt" ::: "rax", "rdi", "rsi", "memory")));
	show_status("bad return", CHILD(__asm__ volatile("mov $0x800000000000, %%rsp; mov $15, %%eax; syscall; hlt" ::: "rax")));
	show_status("forged frame", CHILD(memset(good, 0xff, sizeof good);
					  __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; hlt" ::"r"(good + 8) : "rax")));
	return 0;
}
