/* Tries through libgfapi what no mount lets through: changes by file handle (gfid), and on files opened for reading.
 *   gfapi VOLUME SERVER DIRECTORY SNAPSHOT-GFID LOG
 * Prints one line "CALL RESULT ERRNO" for each. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <glusterfs/api/glfs-handles.h>
#include <glusterfs/api/glfs.h>

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long result = (long)(call);                                                                                    \
        printf("%.24s %ld %d\n", #call, result, errno);                                                                \
    } while (0)
#define TRY_OBJECT(call) TRY((call) ? 0 : -1)

int
main(int argc, char **argv)
{
    struct stat st = {0};
    unsigned char gfid[16];
    char inside[512];
    glfs_t *fs = argc == 6 ? glfs_new(argv[1]) : NULL;

    if (!fs || uuid_parse(argv[4], gfid) || glfs_set_volfile_server(fs, "tcp", argv[2], 24007) ||
        glfs_set_logging(fs, argv[5], 7) || glfs_init(fs)) {
        perror("no connection");
        return 1;
    }
    snprintf(inside, sizeof(inside), "%s/.fsnap", argv[3]);
    glfs_object_t *snapshot = glfs_h_create_from_handle(fs, gfid, sizeof(gfid), &st);
    glfs_object_t *dir = glfs_h_lookupat(fs, NULL, argv[3], &st, 0);
    glfs_object_t *snap_dir = glfs_h_lookupat(fs, NULL, inside, &st, 0);
    glfs_fd_t *fd = snapshot ? glfs_h_open(fs, snapshot, O_RDONLY) : NULL;
    glfs_object_t *other = dir ? glfs_h_creat(fs, dir, "gfapi", O_RDWR, 0644, &st) : NULL;
    glfs_fd_t *other_fd = other ? glfs_h_open(fs, other, O_RDWR) : NULL;
    char byte;

    if (!fd || !snap_dir || !other_fd || glfs_pread(fd, &byte, 1, 0, 0, NULL) != 1) {
        perror("no snapshot");
        return 1;
    }

    TRY(glfs_pwrite(fd, "x", 1, 0, 0, NULL, NULL) < 0 ? -1 : glfs_fsync(fd, NULL, NULL));
    TRY(glfs_ftruncate(fd, 0, NULL, NULL));
    TRY(glfs_fallocate(fd, 0, 0, 1 << 24));
    TRY(glfs_discard(fd, 0, 4096));
    TRY(glfs_zerofill(fd, 0, 4096));
    off64_t from = 0, to = 0;
    TRY(glfs_copy_file_range(other_fd, &from, fd, &to, 1, 0, NULL, NULL, NULL));
    TRY(glfs_fchmod(fd, 0666));
    TRY(glfs_fchown(fd, 1, 1));
    TRY(glfs_fsetxattr(fd, "user.x", "1", 1, 0));
    TRY(glfs_fremovexattr(fd, "user.colour"));

    st.st_mode = 0666;
    TRY(glfs_h_truncate(fs, snapshot, 0));
    TRY(glfs_h_setattrs(fs, snapshot, &st, GFAPI_SET_ATTR_MODE));
    TRY(glfs_h_setxattrs(fs, snapshot, "user.x", "1", 1, 0));
    TRY(glfs_h_removexattrs(fs, snapshot, "user.colour"));
    TRY(glfs_h_setattrs(fs, snap_dir, &st, GFAPI_SET_ATTR_MODE));
    TRY(glfs_h_setxattrs(fs, snap_dir, "user.x", "1", 1, 0));
    TRY(glfs_h_link(fs, snapshot, dir, "linked"));
    TRY(glfs_h_link(fs, other, snap_dir, "linked"));
    TRY(glfs_h_rename(fs, dir, "gfapi", snap_dir, "renamed"));
    TRY(glfs_h_rename(fs, snap_dir, "f@s", dir, "renamed"));
    TRY(glfs_h_rename(fs, dir, ".fsnap", dir, "renamed"));
    TRY(glfs_h_unlink(fs, snap_dir, "f@s"));
    TRY_OBJECT(glfs_h_creat(fs, snap_dir, "created", O_RDWR, 0644, &st));
    TRY_OBJECT(glfs_h_mkdir(fs, snap_dir, "made", 0755, &st));
    TRY_OBJECT(glfs_h_mknod(fs, snap_dir, "node", S_IFIFO | 0644, 0, &st));
    TRY_OBJECT(glfs_h_symlink(fs, snap_dir, "symlink", "x", &st));
    fflush(stdout);
    /* glfs_fini takes ten seconds. */
    _exit(0);
}
