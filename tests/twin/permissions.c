/* Permission bits, checked as a user who is not root: owner, group, others, folders, sticky folders. */
#include "twin.h"
#include <grp.h>

static void try_all(const char *path)
{
	int file;

	printf("%s: read %s,", path, (file = open(path, O_RDONLY)) < 0 ? strerrorname_np(errno) : "yes");
	if (file >= 0)
		close(file);
	printf(" write %s,", (file = open(path, O_WRONLY)) < 0 ? strerrorname_np(errno) : "yes");
	if (file >= 0)
		close(file);
	printf(" execute %s\n", access(path, X_OK) ? strerrorname_np(errno) : "yes");
}

static void show_mode(const char *path)
{
	struct stat status;

	stat(path, &status);
	printf("%s: %04o\n", path, status.st_mode & 07777);
}

static void as(uid_t uid, gid_t gid, gid_t extra)
{
	setgroups(1, &extra);
	setgid(gid);
	setuid(uid);
}

int main(void)
{
	const mode_t modes[] = {0, 0400, 0200, 0100, 0700, 0040, 0020, 0070, 0004, 0007, 0077, 0770, 0707, 0444};
	char name[16];

	enter_folder("permissions");
	umask(0);
	for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
		snprintf(name, sizeof name, "f%04o", modes[i]);
		make_file(name, "");
		chown(name, 1000, 100);
		chmod(name, modes[i]);
		printf("mode %04o\n", modes[i]);
		show_status("owner", CHILD(as(1000, 50, 50); try_all(name)));
		show_status("group", CHILD(as(1001, 100, 50); try_all(name)));
		show_status("second group", CHILD(as(1001, 50, 100); try_all(name)));
		show_status("other", CHILD(as(1001, 50, 50); try_all(name)));
		show_status("root", CHILD(try_all(name)));
	}

	/* Folders: x to pass, r to list, w to change. */
	const mode_t folders[] = {0700, 0711, 0744, 0722, 0733, 0755, 01777};
	for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++) {
		mkdir("d", 0700);
		make_file("d/f", "");
		chmod("d/f", 0666);
		chmod("d", folders[i]);
		printf("folder %04o\n", folders[i]);
		show_status("other", CHILD(as(1001, 50, 50); TRY(access("d/f", F_OK)); TRY(open("d", O_RDONLY) > 0 ? 0 : -1);
					   TRY(open("d/new", O_CREAT | O_WRONLY, 0600) > 0 ? 0 : -1); TRY(chdir("d"));
					   TRY(rename("/tmp/twin-permissions/d/new", "/tmp/twin-permissions/d/new2"));
					   TRY(unlink("/tmp/twin-permissions/d/f")); TRY(mkdir("/tmp/twin-permissions/d/sub", 0700));
					   TRY(rmdir("/tmp/twin-permissions/d/sub"))));
		unlink("d/f"), unlink("d/new"), unlink("d/new2"), rmdir("d/sub"), rmdir("d");
	}

	/* Sticky: only owners of file or folder may remove. */
	mkdir("sticky", 01777);
	make_file("sticky/root", "");
	show_status("1000 makes", CHILD(as(1000, 100, 100); make_file("sticky/mine", "")));
	show_status("1001", CHILD(as(1001, 100, 100); TRY(unlink("sticky/mine")); TRY(rename("sticky/mine", "sticky/x"));
				  TRY(unlink("sticky/root"))));
	show_status("1000", CHILD(as(1000, 100, 100); TRY(rename("sticky/root", "sticky/mine")); TRY(unlink("sticky/mine"))));
	/* A set-group-ID bit that the group can't use stays for who might set it. */
	for (int mode = 02644; mode <= 02654; mode += 010) {
		make_file("bit", "");
		for (int member = 0; member < 2; member++) {
			const int group = member ? 5 : 100;
			chown("bit", 1000, 5), chmod("bit", mode);
			show_status("write", CHILD(as(1000, group, group); int file = open("bit", O_WRONLY);
						   TRY(write(file, "x", 1)); show_mode("bit")));
			chown("bit", 1000, 5), chmod("bit", mode);
			show_status("truncate", CHILD(as(1000, group, group); TRY(truncate("bit", 0)); show_mode("bit")));
			chown("bit", 1000, 5), chmod("bit", mode);
			show_status("chown", CHILD(as(1000, group, group); TRY(chown("bit", -1, group)); show_mode("bit")));
		}
		chown("bit", 1000, 5), chmod("bit", mode);
		TRY(chown("bit", 1001, 6));
		show_mode("bit");
	}
	/* access(2) asks for the real user, faccessat with AT_EACCESS for the effective one. */
	chmod("f0700", 0700);
	chown("f0700", 0, 0);
	show_status("real user", CHILD(setresuid(1000, 0, 0); TRY(access("f0700", R_OK));
				       TRY(faccessat(AT_FDCWD, "f0700", R_OK, AT_EACCESS));
				       TRY(open("f0700", O_RDONLY) > 0 ? 0 : -1)));
	return 0;
}
