/* A libhiprtc that knows three targets: it refuses gfx906's source, ends the process at the second program of
 * gfx1100, and gives the code object of $FAKE_CODE for everything else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compiled;
static char log_text[256];

int hiprtcVersion(int* major, int* minor) { *major = 9; *minor = 0; return 0; }

int hiprtcCreateProgram(void** program, const char* source, const char* name, int n, const char** headers,
                        const char** names) {
    (void)source; (void)n; (void)headers; (void)names;
    *program = strdup(name);
    return 0;
}

int hiprtcCompileProgram(void* program, int n, const char** options) {
    log_text[0] = 0;
    for (int i = 0; i < n; i++) {
        if (!strcmp(options[i], "--offload-arch=gfx906")) {
            snprintf(log_text, sizeof log_text, "%s:1:1: error: refused", (const char*)program);
            return 6;
        }
        if (!strcmp(options[i], "--offload-arch=gfx1100") && ++compiled == 2) abort();
    }
    return 0;
}

int hiprtcGetProgramLogSize(void* program, size_t* bytes) { (void)program; *bytes = strlen(log_text) + 1; return 0; }
int hiprtcGetProgramLog(void* program, char* log) { (void)program; strcpy(log, log_text); return 0; }

static size_t code(char* to) {
    FILE* file = fopen(getenv("FAKE_CODE"), "rb");
    static char bytes[1 << 16];
    size_t n = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file) fclose(file);
    if (to) memcpy(to, bytes, n);
    return n;
}

int hiprtcGetCodeSize(void* program, size_t* bytes) { (void)program; *bytes = code(0); return 0; }
int hiprtcGetCode(void* program, char* to) { (void)program; code(to); return 0; }
int hiprtcDestroyProgram(void** program) { free(*program); *program = 0; return 0; }
