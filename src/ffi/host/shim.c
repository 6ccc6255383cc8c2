#include "shim.h"

#include <stddef.h>

#include <glusterfs/client_t.h>
#include <glusterfs/defaults.h>
#include <glusterfs/upcall-utils.h>

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

/* Sends a fop to a translator and says whether that was called: the parameters of STACK_WIND_COOKIE are evaluated only then. PARAMS
 * are what the fop has besides its frame; `first` is the first argument, and the others follow. */
#define PARAMS(...) __VA_ARGS__
#define WIND(fop, params, first, ...)                                                                                  \
    int fsnap_wind_##fop(call_frame_t *frame, void *cookie, fop_##fop##_cbk_t cbk, xlator_t *to, params)               \
    {                                                                                                                  \
        int wound = 0;                                                                                                 \
        STACK_WIND_COOKIE(frame, cbk, cookie, to, to->fops->fop, (wound = 1, first), __VA_ARGS__);                     \
        return wound;                                                                                                  \
    }

WIND(stat, PARAMS(loc_t *loc), loc, NULL)
WIND(setattr, PARAMS(loc_t *loc, struct iatt *stbuf, int32_t valid, dict_t *xdata), loc, stbuf, valid, xdata)
WIND(fsetattr, PARAMS(fd_t *fd, struct iatt *stbuf, int32_t valid, dict_t *xdata), fd, stbuf, valid, xdata)
WIND(readdir, PARAMS(fd_t *fd, size_t size, off_t offset, dict_t *xdata), fd, size, offset, xdata)
WIND(readdirp, PARAMS(fd_t *fd, size_t size, off_t offset, dict_t *xdata), fd, size, offset, xdata)
WIND(unlink, PARAMS(loc_t *loc, int flags, dict_t *xdata), loc, flags, xdata)
WIND(rmdir, PARAMS(loc_t *loc, int flags, dict_t *xdata), loc, flags, xdata)
WIND(rename, PARAMS(loc_t *oldloc, loc_t *newloc, dict_t *xdata), oldloc, newloc, xdata)
WIND(link, PARAMS(loc_t *oldloc, loc_t *newloc, dict_t *xdata), oldloc, newloc, xdata)
WIND(mknod, PARAMS(loc_t *loc, mode_t mode, dev_t rdev, mode_t umask, dict_t *xdata), loc, mode, rdev, umask, xdata)
WIND(setxattr, PARAMS(loc_t *loc, dict_t *dict, int32_t flags, dict_t *xdata), loc, dict, flags, xdata)
WIND(fsetxattr, PARAMS(fd_t *fd, dict_t *dict, int32_t flags, dict_t *xdata), fd, dict, flags, xdata)
WIND(removexattr, PARAMS(loc_t *loc, const char *name, dict_t *xdata), loc, name, xdata)
WIND(fremovexattr, PARAMS(fd_t *fd, const char *name, dict_t *xdata), fd, name, xdata)
WIND(truncate, PARAMS(loc_t *loc, off_t offset, dict_t *xdata), loc, offset, xdata)
WIND(xattrop, PARAMS(loc_t *loc, gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata), loc, operation, dict, xdata)
WIND(fxattrop, PARAMS(fd_t *fd, gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata), fd, operation, dict, xdata)
WIND(getxattr, PARAMS(loc_t *loc, dict_t *xdata), loc, NULL, xdata)
WIND(fgetxattr, PARAMS(fd_t *fd, dict_t *xdata), fd, NULL, xdata)
WIND(lookup, PARAMS(loc_t *loc, dict_t *xdata), loc, xdata)

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

void
fsnap_upcall(xlator_t *top, char *client_uid, const unsigned char *gfid, enum fsnap_upcall what)
{
    /* What nl-cache and md-cache look at: nlc_invalidate, mdc_invalidate. */
    struct gf_upcall_cache_invalidation invalid = {
        .flags = UP_INVAL_ATTR | (what == FSNAP_UPCALL_ENTRIES ? UP_TIMES : UP_NLINK),
    };
    struct gf_upcall upcall = {
        .client_uid = client_uid,
        .event_type = GF_UPCALL_CACHE_INVALIDATION,
        .data = &invalid,
    };
    memcpy(upcall.gfid, gfid, sizeof(upcall.gfid));
    default_notify(top, GF_EVENT_UPCALL, &upcall);
    if (what == FSNAP_UPCALL_NAME) {
        /* A stat, which goes by the gfid, would let md-cache answer a lookup of that name again. Alone: with this flag it looks at no
         * other. */
        invalid.flags = UP_EXPLICIT_LOOKUP;
        default_notify(top, GF_EVENT_UPCALL, &upcall);
    }
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

const char *
fsnap_client_name(client_t *client)
{
    return client->client_name;
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

size_t
fsnap_other_fops(call_frame_t *frame, uintptr_t *stacks, size_t room)
{
    call_pool_t *pool = frame->root->pool;
    call_stack_t *stack;
    size_t count = 0;

    LOCK(&pool->lock);
    {
        list_for_each_entry(stack, &pool->all_frames, all_frames)
        {
            if (stack != frame->root && stack->type == GF_OP_TYPE_FOP && count < room)
                stacks[count++] = (uintptr_t)stack;
        }
    }
    UNLOCK(&pool->lock);
    return count;
}
