#include "shim.h"

#include <stddef.h>

#include <glusterfs/client_t.h>
#include <glusterfs/defaults.h>

/* The parameters of STACK_WIND_COOKIE are evaluated only where the fop is called: hence `wound`. */

/* Where the packaged GlusterFS keeps what we touch: headers read with the wrong macros fail here and not in somebody's
 * memory. */
#if GLUSTERFS_MAJOR == 10
_Static_assert(offsetof(xlator_t, ctx) == 0xf70, "xlator_t is not laid out as in the packaged GlusterFS 10");
_Static_assert(sizeof(xlator_t) == 4128, "xlator_t is not laid out as in the packaged GlusterFS 10");
#elif GLUSTERFS_MAJOR == 11
_Static_assert(offsetof(xlator_t, ctx) == 0xb0, "xlator_t is not laid out as in the packaged GlusterFS 11");
_Static_assert(offsetof(xlator_t, level) == 0xff8, "xlator_t is not laid out as in the packaged GlusterFS 11");
_Static_assert(sizeof(xlator_t) == 4096, "xlator_t is not laid out as in the packaged GlusterFS 11");
#else
#error "the layout of this version of GlusterFS has not been verified"
#endif

int
fsnap_wind_stat(call_frame_t *frame, void *cookie, fop_stat_cbk_t cbk, xlator_t *child, loc_t *loc)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->stat, (wound = 1, loc), NULL);
    return wound;
}

int
fsnap_wind_setattr(call_frame_t *frame, void *cookie, fop_setattr_cbk_t cbk, xlator_t *child, loc_t *loc,
                   struct iatt *stbuf, int32_t valid)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->setattr, (wound = 1, loc), stbuf, valid, NULL);
    return wound;
}

int
fsnap_wind_readdir(call_frame_t *frame, void *cookie, fop_readdir_cbk_t cbk, xlator_t *child, fd_t *fd, size_t size,
                   off_t offset, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->readdir, (wound = 1, fd), size, offset, xdata);
    return wound;
}

int
fsnap_wind_readdirp(call_frame_t *frame, void *cookie, fop_readdirp_cbk_t cbk, xlator_t *child, fd_t *fd, size_t size,
                    off_t offset, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->readdirp, (wound = 1, fd), size, offset, xdata);
    return wound;
}

int
fsnap_wind_unlink(call_frame_t *frame, void *cookie, fop_unlink_cbk_t cbk, xlator_t *child, loc_t *loc, int flags, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->unlink, (wound = 1, loc), flags, xdata);
    return wound;
}

int
fsnap_wind_rmdir(call_frame_t *frame, void *cookie, fop_rmdir_cbk_t cbk, xlator_t *child, loc_t *loc, int flags, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->rmdir, (wound = 1, loc), flags, xdata);
    return wound;
}

int
fsnap_wind_rename(call_frame_t *frame, void *cookie, fop_rename_cbk_t cbk, xlator_t *child, loc_t *oldloc, loc_t *newloc, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->rename, (wound = 1, oldloc), newloc, xdata);
    return wound;
}

int
fsnap_wind_link(call_frame_t *frame, void *cookie, fop_link_cbk_t cbk, xlator_t *child, loc_t *oldloc, loc_t *newloc, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->link, (wound = 1, oldloc), newloc, xdata);
    return wound;
}

int
fsnap_wind_mknod(call_frame_t *frame, void *cookie, fop_mknod_cbk_t cbk, xlator_t *child, loc_t *loc, mode_t mode, dev_t rdev, mode_t umask, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->mknod, (wound = 1, loc), mode, rdev, umask, xdata);
    return wound;
}

int
fsnap_wind_setxattr(call_frame_t *frame, void *cookie, fop_setxattr_cbk_t cbk, xlator_t *child, loc_t *loc, dict_t *dict, int32_t flags, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->setxattr, (wound = 1, loc), dict, flags, xdata);
    return wound;
}

int
fsnap_wind_truncate(call_frame_t *frame, void *cookie, fop_truncate_cbk_t cbk, xlator_t *child, loc_t *loc, off_t offset, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->truncate, (wound = 1, loc), offset, xdata);
    return wound;
}

int
fsnap_wind_xattrop(call_frame_t *frame, void *cookie, fop_xattrop_cbk_t cbk, xlator_t *to, loc_t *loc, gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, to, to->fops->xattrop, (wound = 1, loc), operation, dict, xdata);
    return wound;
}

int
fsnap_wind_fxattrop(call_frame_t *frame, void *cookie, fop_fxattrop_cbk_t cbk, xlator_t *to, fd_t *fd, gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, to, to->fops->fxattrop, (wound = 1, fd), operation, dict, xdata);
    return wound;
}

call_frame_t *
fsnap_frame_like(call_frame_t *frame)
{
    call_frame_t *copy = copy_frame(frame);
    if (!copy)
        return NULL;
    copy->root->op = GF_FOP_TRUNCATE;
    copy->root->flags = MDATA_CTIME | MDATA_MTIME;
    clock_gettime(CLOCK_REALTIME, &copy->root->ctime);
    if (frame->root->client)
        copy->root->client = gf_client_ref(frame->root->client);
    return copy;
}

void
fsnap_end_frame(call_frame_t *frame)
{
    client_t *client = frame->root->client;
    STACK_DESTROY(frame->root);
    if (client)
        gf_client_unref(client);
}

static int32_t
fsnap_sent(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno, dict_t *dict, dict_t *xdata)
{
    STACK_DESTROY(frame->root);
    return 0;
}

int
fsnap_send_xattrop(xlator_t *this, xlator_t *to, loc_t *loc, gf_xattrop_flags_t operation, dict_t *dict)
{
    call_frame_t *frame = create_frame(this, this->ctx->pool);
    if (!frame)
        return 0;
    frame->root->type = GF_OP_TYPE_FOP;
    frame->root->op = GF_FOP_XATTROP;
    frame->root->pid = GF_CLIENT_PID_SELF_HEALD;
    STACK_WIND(frame, fsnap_sent, to, to->fops->xattrop, loc, operation, dict, NULL);
    return 1;
}

int
fsnap_wind_getxattr(call_frame_t *frame, void *cookie, fop_getxattr_cbk_t cbk, xlator_t *child, loc_t *loc, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->getxattr, (wound = 1, loc), NULL, xdata);
    return wound;
}

int
fsnap_wind_fgetxattr(call_frame_t *frame, void *cookie, fop_fgetxattr_cbk_t cbk, xlator_t *child, fd_t *fd, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->fgetxattr, (wound = 1, fd), NULL, xdata);
    return wound;
}

int
fsnap_wind_lookup(call_frame_t *frame, void *cookie, fop_lookup_cbk_t cbk, xlator_t *child, loc_t *loc, dict_t *xdata)
{
    int wound = 0;
    STACK_WIND_COOKIE(frame, cbk, cookie, child, child->fops->lookup, (wound = 1, loc), xdata);
    return wound;
}

int
fsnap_dict_set_bin(dict_t *dict, char *key, void *bytes, size_t size)
{
    return dict_set_bin(dict, key, bytes, size);
}

void
fsnap_dict_del(dict_t *dict, char *key)
{
    dict_del(dict, key);
}

void *
fsnap_memdup(const void *bytes, size_t size)
{
    return gf_memdup(bytes, size);
}

const char *
fsnap_client_uid(client_t *client)
{
    return client->client_uid;
}

void
fsnap_free(void *copy)
{
    GF_FREE(copy);
}

int32_t
fsnap_notify(xlator_t *this, int32_t event, void *data, ...)
{
    return fsnap_event(this, event) ? default_notify(this, event, data) : 0;
}
