/* support.h - what several test programs need: components from plugin files, and status checks that print the sentence. */
#ifndef MQB_TEST_SUPPORT_H
#define MQB_TEST_SUPPORT_H

#include "base/base.h"
#include <mqbench/mqbench.h>

#include <dlfcn.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mqb_error err = MQB_ERROR_INIT;
#define OK(call)                                                                                                      \
    do {                                                                                                              \
        mqb_status status_ = (call);                                                                                  \
        if (status_ != MQB_OK)                                                                                        \
            fail_msg("%s: %s", #call, err.text);                                                                      \
    } while (0)

/* The first component of an interface in build/lib/mqbench/<library>.so; stays open. */
static inline const void *component(const char *library, const char *interface)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.so", MQB_PLUGIN_DIR, library);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL)
        fail_msg("%s", dlerror());
    const struct mqb_plugin_entry *entry = dlsym(handle, MQB_PLUGIN_SYMBOL);
    const void *vtable = NULL;
    for (uint32_t i = 0; entry != NULL && i < entry->num_components && vtable == NULL; i++)
        if (strcmp(entry->components[i].interface_id, interface) == 0)
            vtable = entry->components[i].vtable;
    dlclose(handle);
    if (vtable == NULL)
        fail_msg("%s: no %s", library, interface);
    return vtable;
}

#endif
