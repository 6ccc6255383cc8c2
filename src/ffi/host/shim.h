/* What of the host is a macro or static inline, as functions. No decisions in here. */
#pragma once
#include <glusterfs/xlator.h>

/* STACK_WIND_COOKIE of a fop to CHILD; CBK gets COOKIE. Returns 0, and does not call CBK, if the host is out of memory;
 * else 1, and CBK may have been called already. */
int fsnap_wind_stat(call_frame_t *frame, void *cookie, fop_stat_cbk_t cbk, xlator_t *child, loc_t *loc);
int fsnap_wind_setattr(call_frame_t *frame, void *cookie, fop_setattr_cbk_t cbk, xlator_t *child, loc_t *loc,
                        struct iatt *stbuf, int32_t valid, dict_t *xdata);
int fsnap_wind_fsetattr(call_frame_t *frame, void *cookie, fop_fsetattr_cbk_t cbk, xlator_t *child, fd_t *fd,
                        struct iatt *stbuf, int32_t valid, dict_t *xdata);
int fsnap_wind_readdir(call_frame_t *frame, void *cookie, fop_readdir_cbk_t cbk, xlator_t *child, fd_t *fd,
                        size_t size, off_t offset, dict_t *xdata);
int fsnap_wind_readdirp(call_frame_t *frame, void *cookie, fop_readdirp_cbk_t cbk, xlator_t *child, fd_t *fd,
                         size_t size, off_t offset, dict_t *xdata);
int fsnap_wind_unlink(call_frame_t *frame, void *cookie, fop_unlink_cbk_t cbk, xlator_t *child, loc_t *loc, int flags,
                      dict_t *xdata);
int fsnap_wind_rmdir(call_frame_t *frame, void *cookie, fop_rmdir_cbk_t cbk, xlator_t *child, loc_t *loc, int flags,
                     dict_t *xdata);
int fsnap_wind_rename(call_frame_t *frame, void *cookie, fop_rename_cbk_t cbk, xlator_t *child, loc_t *oldloc,
                      loc_t *newloc, dict_t *xdata);
int fsnap_wind_link(call_frame_t *frame, void *cookie, fop_link_cbk_t cbk, xlator_t *child, loc_t *oldloc, loc_t *newloc,
                    dict_t *xdata);
int fsnap_wind_mknod(call_frame_t *frame, void *cookie, fop_mknod_cbk_t cbk, xlator_t *child, loc_t *loc, mode_t mode,
                     dev_t rdev, mode_t umask, dict_t *xdata);
int fsnap_wind_setxattr(call_frame_t *frame, void *cookie, fop_setxattr_cbk_t cbk, xlator_t *child, loc_t *loc,
                        dict_t *dict, int32_t flags, dict_t *xdata);
int fsnap_wind_fsetxattr(call_frame_t *frame, void *cookie, fop_fsetxattr_cbk_t cbk, xlator_t *child, fd_t *fd,
                         dict_t *dict, int32_t flags, dict_t *xdata);
int fsnap_wind_removexattr(call_frame_t *frame, void *cookie, fop_removexattr_cbk_t cbk, xlator_t *child, loc_t *loc,
                           const char *name, dict_t *xdata);
int fsnap_wind_fremovexattr(call_frame_t *frame, void *cookie, fop_fremovexattr_cbk_t cbk, xlator_t *child, fd_t *fd,
                            const char *name, dict_t *xdata);
int fsnap_wind_truncate(call_frame_t *frame, void *cookie, fop_truncate_cbk_t cbk, xlator_t *child, loc_t *loc,
                        off_t offset, dict_t *xdata);
int fsnap_wind_xattrop(call_frame_t *frame, void *cookie, fop_xattrop_cbk_t cbk, xlator_t *to, loc_t *loc,
                       gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata);
int fsnap_wind_fxattrop(call_frame_t *frame, void *cookie, fop_fxattrop_cbk_t cbk, xlator_t *to, fd_t *fd,
                        gf_xattrop_flags_t operation, dict_t *dict, dict_t *xdata);
/* A frame of its own, for a truncate at this moment by whoever has made the request of FRAME: the same user, groups, process, lock
 * owner and connection. NULL if the host is out of memory. */
call_frame_t *fsnap_frame_like(call_frame_t *frame);
/* Ends such a frame. */
void fsnap_end_frame(call_frame_t *frame);
/* An xattrop of THIS's own, on behalf of self-heal, whose answer nobody waits for. Returns 0 if the host is out of memory. */
int fsnap_send_xattrop(xlator_t *this, xlator_t *to, loc_t *loc, gf_xattrop_flags_t operation, dict_t *dict);
/* Of all names. */
int fsnap_wind_getxattr(call_frame_t *frame, void *cookie, fop_getxattr_cbk_t cbk, xlator_t *child, loc_t *loc,
                        dict_t *xdata);
int fsnap_wind_fgetxattr(call_frame_t *frame, void *cookie, fop_fgetxattr_cbk_t cbk, xlator_t *child, fd_t *fd,
                         dict_t *xdata);
int fsnap_wind_lookup(call_frame_t *frame, void *cookie, fop_lookup_cbk_t cbk, xlator_t *child, loc_t *loc,
                      dict_t *xdata);

/* Sends the client with this uid upcalls by way of TOP, the topmost translator of a brick: what it has cached of GFID is out of date. */
enum fsnap_upcall {
    /* The names in that directory. */
    FSNAP_UPCALL_ENTRIES,
    /* Its attributes. */
    FSNAP_UPCALL_ATTRIBUTES,
    /* A name of it, and its attributes. */
    FSNAP_UPCALL_NAME,
};
void fsnap_upcall(xlator_t *top, char *client_uid, const unsigned char *gfid, enum fsnap_upcall what);

/* The stacks of fops that are on their way in the process of `frame`, but for its own, as far as there is room; how many. */
size_t fsnap_other_fops(call_frame_t *frame, uintptr_t *stacks, size_t room);

/* dict_set_bin and dict_del, which are functions in GlusterFS 10 and static inline in 11. */
int fsnap_dict_set_bin(dict_t *dict, char *key, void *bytes, size_t size);
void fsnap_dict_del(dict_t *dict, char *key);

/* A pointer in GlusterFS 10, an array in 11. */
const char *fsnap_client_uid(client_t *client);

/* What its process is called (--process-name), "unknown" if it does not say. */
const char *fsnap_client_name(client_t *client);

/* A copy of SIZE bytes in the host's memory, for the host to free; NULL if it is out of memory. */
void *fsnap_memdup(const void *bytes, size_t size);

/* Frees such a copy that the host did not take over. */
void fsnap_free(void *copy);

/* xlator_api_t.notify: calls fsnap_event, then default_notify if that says so. */
int32_t fsnap_notify(xlator_t *this, int32_t event, void *data, ...);

/* Ours, called by fsnap_notify. */
int32_t fsnap_event(xlator_t *this, int32_t event);
