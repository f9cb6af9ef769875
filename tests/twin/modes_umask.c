/* umask(2), chmod(2), chown(2): which bits stay, and who may change them. */
#include "twin.h"

static void show(const char *path)
{
	struct stat data;

	stat(path, &data);
	printf("%s: %o %d:%d\n", path, data.st_mode, data.st_uid, data.st_gid);
}

static void as_user(void)
{
	setgid(1000);
	setuid(1000);
}

int main(void)
{
	enter_folder("modes");
	TRY(umask(0777777));
	TRY(umask(027));
	make_file("file", "text");
	mkdir("folder", 0777);
	mkfifo("pipe", 0666);
	symlink("file", "link");
	show("file"), show("folder"), show("pipe");
	show_status("inherited", CHILD(TRY(umask(0))));
	TRY(umask(0));
	TRY(mkdir("all", 07777));
	show("all");
	TRY(close(open("set", O_CREAT | O_WRONLY, 07777)));
	show("set");
	TRY(chmod("file", 07777));
	show("file");
	TRY(chmod("file", 0170755));
	show("file");
	TRY(chmod("link", 0600));
	show("file");
	TRY(fchmodat(AT_FDCWD, "file", 0644, 0x1000));
	TRY(chmod("missing", 0));
	TRY(chmod("file/", 0));
	TRY(fchmod(99, 0));

	TRY(chown("file", 1000, 1000));
	TRY(chmod("file", 06755));
	show("file");
	TRY(chown("file", -1, -1));
	show("file");
	TRY(chown("file", 1000, -1));
	show("file");
	TRY(chmod("file", 06745));
	TRY(chown("file", 1000, 1000));
	show("file");
	TRY(lchown("link", 5, 6));
	show("file");
	TRY(chown("folder", 1000, 1000));
	TRY(chmod("folder", 02777));
	/* In a set-group-ID folder new files get the folder's group, new folders the bit too. */
	mkdir("folder/sub", 0755);
	make_file("folder/f", "");
	show("folder/sub"), show("folder/f");

	chmod("file", 06755);
	show_status("owner", CHILD(as_user(); TRY(chmod("file", 04711)); show("file"); TRY(chown("file", 1000, 0));
				   TRY(chown("file", 0, -1)); TRY(chown("file", 1000, 1000)); show("file");
				   TRY(chown("file", -1, -1))));
	show_status("not the owner", CHILD(setuid(1001); TRY(chmod("file", 0)); TRY(chown("file", 1001, -1));
					   TRY(chown("file", -1, -1))));
	/* A write by a user takes set-user-ID away, one by root does not. */
	TRY(chmod("file", 06777));
	show_status("user writes", CHILD(setgid(1001); setuid(1001); int f = TRY(open("file", O_WRONLY)); write(f, "x", 1)));
	show("file");
	TRY(chmod("file", 06777));
	make_file("file2", "");
	int file = open("file", O_WRONLY);
	write(file, "y", 1);
	show("file");
	/* A user outside the file's group cannot set the group bit. */
	chown("file2", 1000, 5);
	show_status("setgid refused", CHILD(as_user(); TRY(chmod("file2", 02755)); show("file2")));
	return 0;
}
