/* setuid(2) and its family: who root may become, and what nobody may any more. */
#include "twin.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void show(const char *when)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;

	getresuid(&r, &e, &s);
	getresgid(&gr, &ge, &gs);
	printf("%s: uid %d %d %d, gid %d %d %d\n", when, r, e, s, gr, ge, gs);
}

int main(void)
{
	gid_t groups[8];

	show("start");
	TRY(getgroups(8, groups));
	TRY(setgroups(2, (gid_t[]){5, 7}));
	TRY(getgroups(8, groups));
	printf("groups %d %d\n", groups[0], groups[1]);
	TRY(getgroups(1, groups));
	TRY(getgroups(0, NULL));
	show_status("setuid", CHILD(TRY(setgid(1000)); TRY(setuid(1000)); show("user"); TRY(setuid(0)); TRY(seteuid(0));
				    TRY(setgroups(0, NULL)); TRY(setgid(0)); TRY(setuid(1000)); TRY(setresuid(-1, -1, 1001));
				    TRY(kill(1, 0)); TRY(kill(getppid(), SIGTERM)); TRY(kill(getpid(), 0))));
	show_status("seteuid", CHILD(TRY(seteuid(1000)); show("effective"); TRY(setuid(1001)); TRY(seteuid(0));
				     show("back"); TRY(setreuid(1000, 0)); show("swapped"); TRY(setreuid(0, 1000));
				     show("again"); TRY(setuid(1000)); show("end"); TRY(setuid(0))));
	show_status("setresuid", CHILD(TRY(setresuid(1, 2, 3)); show("three"); TRY(setresuid(-1, 1, -1)); show("four");
				       TRY(setresuid(3, 3, 3)); TRY(setresuid(-1, 2, -1)); TRY(setuid(4))));
	show_status("setregid", CHILD(TRY(setregid(10, 20)); show("groups"); TRY(setuid(99)); TRY(setregid(20, 10));
				      TRY(setgid(30)); TRY(setegid(10)); show("end")));
	TRY(setfsuid(-1));
	TRY(setuid(-1));
	/* A set-user-ID program runs as its owner. */
	enter_folder("credentials");
	show_status("copy", CHILD(execl("/bin/cp", "cp", "/bin/busybox", "./id", NULL)));
	TRY(chown("id", 1000, 1000));
	TRY(chmod("id", 06755));
	show_status("set-user-ID", CHILD(execl("./id", "id", "-u", NULL)));
	show_status("set-user-ID from 1001", CHILD(setgid(1001); setuid(1001); execl("./id", "id", NULL)));
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	show_status("no new privileges", CHILD(setuid(1001); execl("./id", "id", "-u", NULL)));
	return 0;
}
