/* A FUSE file system with one file, which calls itself what its options say:
 *     impostor DIR -f -o subtype=glusterfs,fsname=SERVER:VOLUME,allow_other */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <string.h>

static int look(const char *path, struct stat *stat, struct fuse_file_info *file)
{
    (void)file;
    memset(stat, 0, sizeof *stat);
    if (strcmp(path, "/") == 0) {
        stat->st_mode = S_IFDIR | 0755;
        stat->st_nlink = 2;
    } else if (strcmp(path, "/f") == 0) {
        stat->st_mode = S_IFREG | 0644;
        stat->st_nlink = 1;
    } else {
        return -ENOENT;
    }
    return 0;
}

static int list(const char *path, void *buffer, fuse_fill_dir_t fill, off_t from, struct fuse_file_info *file,
                enum fuse_readdir_flags flags)
{
    (void)path, (void)from, (void)file, (void)flags;
    return fill(buffer, "f", NULL, 0, 0);
}

static int ask(const char *path, const char *name, char *value, size_t size)
{
    (void)path, (void)name, (void)value, (void)size;
    return -ENODATA;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {.getattr = look, .readdir = list, .getxattr = ask};
    return fuse_main(argc, argv, &operations, NULL);
}
