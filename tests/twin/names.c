/* uname(2), sethostname(2), sysinfo(2), getcpu, process names: the fields that are the same everywhere. */
#include "twin.h"
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void)
{
	struct utsname name;
	struct sysinfo info;
	char text[32];

	TRY(uname(&name));
	printf("%s %s\n", name.sysname, name.machine);
	int major = 0, minor = 0;
	IS(sscanf(name.release, "%d.%d", &major, &minor) == 2 && major >= 5);
	IS(strlen(name.version) > 0);
	TRY(uname((void *)8));
	TRY(sethostname("twin", 4));
	uname(&name);
	printf("%s\n", name.nodename);
	TRY(sethostname("x", -1));
	TRY(sethostname("x", 65));
	TRY(sethostname((void *)8, 4));
	TRY(setdomainname("domain", 6));
	uname(&name);
	printf("%s\n", name.domainname);
	show_status("a user", CHILD(setuid(1000); TRY(sethostname("y", 1))));
	TRY(sysinfo(&info));
	IS(info.totalram > 0 && info.freeram < info.totalram && info.procs > 1 && info.mem_unit == 1);
	TRY(sysinfo((void *)8));
	TRY(prctl(PR_SET_NAME, "a name that is too long"));
	TRY(prctl(PR_GET_NAME, text));
	printf("%s\n", text);
	TRY(prctl(PR_GET_NAME, 8));
	TRY(prctl(PR_SET_DUMPABLE, 0));
	TRY(prctl(PR_GET_DUMPABLE));
	TRY(prctl(PR_SET_DUMPABLE, 5));
	TRY(prctl(99999));
	TRY(prctl(PR_SET_PDEATHSIG, 99));
	IS(getppid() > 0 && getpid() > getppid());
	IS(syscall(SYS_gettid) == getpid());
	TRY(getpriority(PRIO_PROCESS, 0));
	TRY(setpriority(PRIO_PROCESS, 0, 5));
	TRY(getpriority(PRIO_PROCESS, 0));
	TRY(setpriority(PRIO_PROCESS, 0, 100));
	TRY(getpriority(PRIO_PROCESS, 0));
	TRY(getpriority(9, 0));
	TRY(getpriority(PRIO_PROCESS, 1000000));
	TRY(nice(-3));
	show_status("a user", CHILD(setuid(1000); TRY(nice(1)); TRY(setpriority(PRIO_PROCESS, 0, 0)); TRY(nice(-30))));
	return 0;
}
