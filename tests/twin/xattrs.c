/* getxattr(2) and its family on tmpfs. */
#include "twin.h"
#include <sys/xattr.h>

int main(void)
{
	char value[64], list[256];

	enter_folder("xattr");
	make_file("file", "");
	symlink("file", "link");
	TRY(getxattr("file", "trusted.x", value, sizeof value));
	TRY(setxattr("file", "trusted.x", "value", 5, 0));
	TRY(setxattr("file", "trusted.x", "other", 5, XATTR_CREATE));
	TRY(setxattr("file", "trusted.y", "other", 5, XATTR_REPLACE));
	TRY(setxattr("file", "trusted.x", "longer value", 12, XATTR_REPLACE));
	TRY(setxattr("file", "trusted.x", "v", 1, 77));
	TRY(getxattr("file", "trusted.x", value, sizeof value));
	TRY(getxattr("file", "trusted.x", value, 3));
	TRY(getxattr("file", "trusted.x", NULL, 0));
	TRY(getxattr("link", "trusted.x", value, sizeof value));
	TRY(lgetxattr("link", "trusted.x", value, sizeof value));
	TRY(listxattr("file", list, sizeof list));
	TRY(listxattr("file", list, 3));
	TRY(listxattr("file", NULL, 0));
	printf("%s\n", list);
	TRY(setxattr("file", "nonsense", "1", 1, 0));
	TRY(setxattr("file", "", "1", 1, 0));
	TRY(setxattr("file", "unknown.x", "1", 1, 0));
	memset(list, 'n', sizeof list);
	memcpy(list, "trusted.", 8);
	list[255] = 0;
	TRY(setxattr("file", list, "1", 1, 0));
	TRY(removexattr("file", list));
	TRY(removexattr("file", "trusted.x"));
	TRY(removexattr("file", "trusted.x"));
	TRY(listxattr("file", list, sizeof list));
	TRY(getxattr("missing", "trusted.x", value, 1));
	TRY(fgetxattr(99, "trusted.x", value, 1));
	show_status("a user", CHILD(setuid(1000); TRY(setxattr("file", "trusted.x", "1", 1, 0));
				    TRY(getxattr("file", "trusted.x", value, 1))));
	return 0;
}
