/* Sends to a brick what no mount and no libgfapi sends. Files lie in the volume's root. Prints one line "CALL RESULT ERRNO" for each
 * request.
 *   raw VOLUME SERVER LOG forge FILE DIRECTORY
 * Requests that carry names of fsnap's xattrs where GlusterFS takes names of xattrs, and the rmdir of a whole tree. FILE has the
 * snapshot s.
 *   raw VOLUME SERVER LOG gone FILE DIRECTORY
 * Opens FILE, which has snapshots, removes it, and looks at it by its gfid: as an application, then by the open file, then as
 * self-heal.
 *   raw VOLUME SERVER LOG carry FILE SNAPSHOT BRICKS
 * To every brick what a restore sends, beneath the cluster's translators, which so note nothing; the carrier only to the first
 * BRICKS of them, and then what self-heal by the same connection may send. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <glusterfs/api/glfs.h>
#include <glusterfs/syncop.h>

/* Of libgfapi, for those who know what they do. */
xlator_t *glfs_active_subvol(glfs_t *fs);

static xlator_t *brick;
static inode_table_t *table;

/* What has, or is to have, NAME in the root; its gfid if it is known. */
static loc_t
at(char *name, inode_t *inode)
{
    loc_t loc = {.parent = table->root, .name = name, .path = name, .inode = inode ? inode : inode_new(table)};

    gf_uuid_copy(loc.pargfid, table->root->gfid);
    if (inode)
        gf_uuid_copy(loc.gfid, inode->gfid);
    return loc;
}

/* An xdata that names one of fsnap's xattrs; with the gfid that something new is to have. */
static dict_t *
forged(char *key)
{
    dict_t *dict = dict_new();
    uuid_t gfid;

    uuid_generate(gfid);
    dict_set_gfuuid(dict, "gfid-req", gfid, false);
    dict_set_dynstr_with_alloc(dict, key, "forged");
    return dict;
}

static inode_t *
find(char *name)
{
    struct iatt stat = {0};
    loc_t loc = at(name, NULL);

    if (syncop_lookup(brick, &loc, &stat, NULL, NULL, NULL) < 0)
        return NULL;
    return inode_link(loc.inode, table->root, name, &stat);
}

static void
show(const char *call, int result)
{
    printf("%s %d %d\n", call, result < 0 ? -1 : 0, result < 0 ? -result : 0);
}

static int
shows_ours(dict_t *dict, char *key, data_t *value, void *seen)
{
    if (strncmp(key, "trusted.fsnap", 13) == 0)
        *(int *)seen = 1;
    return 0;
}

/* Without the 0 at its end. */
static dict_t *
bytes(char *key, char *value)
{
    dict_t *dict = dict_new();

    dict_set_static_bin(dict, key, value, strlen(value));
    return dict;
}

static void
forge(inode_t *file, inode_t *dir, char *file_name, char *dir_name)
{
    char *entry = "trusted.fsnap.snap.s", *payload = "trusted.fsnap.payload";
    struct iatt stat = {0};
    loc_t new = at("new", NULL), old = at(file_name, file), tree = at(dir_name, dir);
    fd_t *fd = fd_create(new.inode, getpid()), *open = fd_create(file, getpid()), *list = fd_create(table->root, getpid());
    gf_dirent_t entries;
    INIT_LIST_HEAD(&entries.list);
    loc_t root = {.inode = table->root, .path = "/"};
    gf_uuid_copy(root.gfid, table->root->gfid);
    if (syncop_open(brick, &old, O_RDWR, open, NULL, NULL) < 0 || syncop_opendir(brick, &root, list, NULL, NULL) < 0) {
        perror("no open file");
        _exit(1);
    }

    show("create", syncop_create(brick, &new, O_RDWR, 0644, fd, &stat, forged(payload), NULL));
    show("mknod", syncop_mknod(brick, &new, S_IFREG | 0644, 0, &stat, forged(payload), NULL));
    show("mkdir", syncop_mkdir(brick, &new, 0755, &stat, forged(payload), NULL));
    show("symlink", syncop_symlink(brick, &new, "x", &stat, forged(payload), NULL));
    show("xattrop", syncop_xattrop(brick, &old, GF_XATTROP_ADD_ARRAY, forged(entry), NULL, NULL, NULL));
    show("fxattrop", syncop_fxattrop(brick, open, GF_XATTROP_ADD_ARRAY, forged(entry), NULL, NULL, NULL));
    show("removexattr", syncop_removexattr(brick, &old, "", forged(entry), NULL));
    show("fremovexattr", syncop_fremovexattr(brick, open, "", forged(entry), NULL));
    show("setxattr", syncop_setxattr(brick, &old, forged(entry), 0, NULL, NULL));
    show("lookup", syncop_lookup(brick, &old, &stat, NULL, forged(entry), NULL));
    show("readdirp", syncop_readdirp(brick, list, 131072, 0, &entries, forged(entry), NULL));
    show("rmdir-tree", syncop_rmdir(brick, &tree, 1, NULL, NULL));

    dict_t *all = dict_new(), *answer = NULL;
    int seen = 0;
    dict_set_int32(all, "list-xattr", 1);
    int result = syncop_lookup(brick, &old, &stat, NULL, all, &answer);
    if (result == 0 && answer)
        dict_foreach(answer, shows_ours, &seen);
    show("lookup-all", result < 0 || !answer ? result : seen ? -EEXIST : 0);
}

/* What is added to the marks of the disperse translator: that many to that of the data. */
static dict_t *
marks(int64_t data)
{
    static uint64_t counts[2];
    dict_t *dict = dict_new();

    counts[0] = htobe64(data);
    dict_set_static_bin(dict, "trusted.ec.dirty", counts, sizeof counts);
    return dict;
}

static void
carry(xlator_t *set_of_bricks, inode_t *file, char *file_name, char *snapshot, int bricks)
{
    char id[37], *arming;
    uuid_t fresh;
    loc_t loc = at(file_name, file);
    xlator_list_t *each;
    pid_t self_heal = -6, own = getpid();

    uuid_generate(fresh);
    uuid_unparse(fresh, id);
    if (asprintf(&arming, "%s;id=%s", snapshot, id) < 0)
        _exit(1);
    for (each = set_of_bricks->children; each; each = each->next, bricks--) {
        brick = each->xlator;
        show("arm", syncop_setxattr(brick, &loc, bytes("glusterfs.fsnap.arm", arming), 0, NULL, NULL));
        if (bricks > 0) {
            show("carrier", syncop_truncate(brick, &loc, 0, bytes("glusterfs.fsnap.carrier", id), NULL));
            // As self-heal does that finds no difference; and back.
            syncopctx_setfspid(&self_heal);
            show("unmark", syncop_xattrop(brick, &loc, GF_XATTROP_ADD_ARRAY64, marks(-1), NULL, NULL, NULL));
            show("mark", syncop_xattrop(brick, &loc, GF_XATTROP_ADD_ARRAY64, marks(1), NULL, NULL, NULL));
            syncopctx_setfspid(&own);
        }
        show("settle", syncop_setxattr(brick, &loc, bytes("glusterfs.fsnap.settle", id), 0, NULL, NULL));
    }
}

static void
gone(inode_t *file, char *file_name)
{
    loc_t named = at(file_name, file), loc = {.inode = file};
    fd_t *open = fd_create(file, getpid());
    struct iatt stat = {0};
    struct iovec *vector = NULL;
    struct iobref *iobref = NULL;
    dict_t *answer = NULL;
    off_t offset = 0;
    int count = 0;
    pid_t self_heal = -6;

    gf_uuid_copy(loc.gfid, file->gfid);
    loc_t found = {.inode = inode_new(table)};
    gf_uuid_copy(found.gfid, file->gfid);
    if (syncop_open(brick, &named, O_RDWR, open, NULL, NULL) < 0 || syncop_unlink(brick, &named, NULL, NULL) < 0) {
        perror("no open file");
        _exit(1);
    }
    fd_t *anonymous = fd_anonymous(file);

    show("lookup", syncop_lookup(brick, &found, &stat, NULL, NULL, NULL));
    show("stat", syncop_stat(brick, &loc, &stat, NULL, NULL));
    show("open", syncop_open(brick, &loc, O_RDONLY, fd_create(file, getpid()), NULL, NULL));
    show("getxattr", syncop_getxattr(brick, &loc, &answer, "user.colour", NULL, NULL));
    show("listxattr", syncop_getxattr(brick, &loc, &answer, NULL, NULL, NULL));
    show("list", syncop_getxattr(brick, &loc, &answer, "glusterfs.fsnap.list", NULL, NULL));
    show("setxattr", syncop_setxattr(brick, &loc, bytes("user.colour", "blue"), 0, NULL, NULL));
    show("create", syncop_setxattr(brick, &loc, bytes("glusterfs.fsnap.create", "late"), 0, NULL, NULL));
    show("truncate", syncop_truncate(brick, &loc, 0, NULL, NULL));
    show("anonymous-readv", syncop_readv(brick, anonymous, 10, 0, 0, &vector, &count, &iobref, &stat, NULL, NULL));
    show("anonymous-fstat", syncop_fstat(brick, anonymous, &stat, NULL, NULL));
    show("anonymous-seek", syncop_seek(brick, anonymous, 0, GF_SEEK_DATA, NULL, &offset));
    show("anonymous-fgetxattr", syncop_fgetxattr(brick, anonymous, &answer, "user.colour", NULL, NULL));
    show("anonymous-ftruncate", syncop_ftruncate(brick, anonymous, 0, NULL, NULL, NULL, NULL));

    show("open-readv", syncop_readv(brick, open, 10, 0, 0, &vector, &count, &iobref, &stat, NULL, NULL));
    show("open-fstat", syncop_fstat(brick, open, &stat, NULL, NULL));
    show("open-size", stat.ia_size > 0 ? 0 : -EIO);
    show("open-fgetxattr", syncop_fgetxattr(brick, open, &answer, "user.colour", NULL, NULL));

    syncopctx_setfspid(&self_heal);
    show("heal-lookup", syncop_lookup(brick, &found, &stat, NULL, NULL, NULL));
    show("heal-getxattr", syncop_getxattr(brick, &loc, &answer, NULL, NULL, NULL));
    show("heal-readv", syncop_readv(brick, anonymous, 10, 0, 0, &vector, &count, &iobref, &stat, NULL, NULL));
}

int
main(int argc, char **argv)
{
    glfs_t *fs = argc >= 7 ? glfs_new(argv[1]) : NULL;

    if (!fs || glfs_set_volfile_server(fs, "tcp", argv[2], 24007) || glfs_set_logging(fs, argv[3], 7) || glfs_init(fs)) {
        perror("no connection");
        return 1;
    }
    xlator_t *above = glfs_active_subvol(fs);
    THIS = above;
    table = above->itable;
    for (brick = above; strcmp(brick->type, "protocol/client") != 0; brick = brick->children->xlator)
        above = brick;
    inode_t *file = find(argv[5]);
    if (!file) {
        perror("no file");
        return 1;
    }
    if (strcmp(argv[4], "carry") == 0 && argc == 8) {
        carry(above, file, argv[5], argv[6], atoi(argv[7]));
    } else if (strcmp(argv[4], "gone") == 0) {
        gone(file, argv[5]);
    } else {
        inode_t *dir = find(argv[6]);
        if (!dir) {
            perror("no directory");
            return 1;
        }
        forge(file, dir, argv[5], argv[6]);
    }
    fflush(stdout);
    _exit(0);
}
