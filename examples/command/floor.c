/* What a client of libgfapi costs that does nothing: `floor VOLUME SERVER`. A volume's id is asked for, so that it has its bricks. */
#include <glusterfs/api/glfs.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    glfs_t *mount = argc == 3 ? glfs_new(argv[1]) : NULL;
    if (!mount || glfs_set_volfile_server(mount, "tcp", argv[2], 0) || glfs_set_logging(mount, "/dev/null", 5))
        return 2;
    /* Taking it down takes seconds. */
    _exit(glfs_init(mount) ? 1 : 0);
}
