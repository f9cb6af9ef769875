/* Numbers that are no system call, and flags that nobody knows. */
#include "twin.h"
#include <sys/prctl.h>

int main(void)
{
	const long numbers[] = {-1, 335, 400, 423, 500, 511, 548, 999, 4096, 0x40000000, 0x40000001, 1L << 32, (1L << 32) + 39, LONG_MIN};

	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		errno = 0;
		long result = syscall(numbers[i], 0, 0, 0, 0, 0, 0);
		printf("%ld: %s\n", numbers[i], result == -1 ? strerrorname_np(errno) : "a result");
	}
	/* Removed long ago, or never there. */
	TRY(syscall(SYS_create_module));
	TRY(syscall(SYS_getpmsg));
	TRY(syscall(SYS_vserver));
	TRY(syscall(SYS_uselib, "x"));
	TRY(syscall(SYS__sysctl, 0));
	TRY(syscall(SYS_afs_syscall));
	TRY(syscall(SYS_tuxcall));
	TRY(syscall(SYS_security));

	TRY(syscall(SYS_getrandom, "x", 1, 0x100));
	TRY(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 0x100));
	TRY(syscall(SYS_dup3, 0, 1, 0x100));
	TRY(syscall(SYS_wait4, -1, NULL, 0x100, NULL));
	TRY(syscall(SYS_clone, 0x00010000, 0, 0, 0, 0));
	TRY(syscall(SYS_clone, 0x00000800, 0, 0, 0, 0));
	TRY(syscall(SYS_clone3, NULL, 0));
	TRY(syscall(SYS_clone3, 8, 64));
	TRY(syscall(SYS_arch_prctl, 0x9999, 0));
	TRY(syscall(SYS_arch_prctl, 0x1002, 0x8000000000000000));
	TRY(syscall(SYS_reboot, 0, 0, 0, 0));
	TRY(syscall(SYS_reboot, 0xfee1dead, 672274793, 0x55, 0));
	TRY(syscall(SYS_futex, numbers, 99, 0, 0, 0, 0));
	TRY(syscall(SYS_mount, "none", "/tmp", "nosuchfs", 0, NULL));
	TRY(syscall(SYS_mount, "none", "/missing", "tmpfs", 0, NULL));
	TRY(syscall(SYS_umount2, "/tmp/none", 0));
	TRY(syscall(SYS_umount2, "/tmp", 0x100));
	TRY(syscall(SYS_sched_setscheduler, 0, 99, numbers));
	TRY(syscall(SYS_personality, 0xffffffff));
	return 0;
}
