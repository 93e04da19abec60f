// CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720 appendix B.4): by the processor where it can, else by table.
#include "clinux.h"
#include <string.h>

static uint32_t table[8][256];
__attribute__((constructor)) static void fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & -(crc & 1));
        table[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int slice = 1; slice < 8; slice++) table[slice][byte] = (table[slice - 1][byte] >> 8) ^ table[0][table[slice - 1][byte] & 255];
}

uint32_t clx_crc32c_by_table(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    crc = ~crc;
    for (; count >= 8; count -= 8, next += 8) {
        crc ^= (uint32_t)next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16 | (uint32_t)next[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^ table[3][next[4]]
            ^ table[2][next[5]] ^ table[1][next[6]] ^ table[0][next[7]];
    }
    while (count--) crc = (crc >> 8) ^ table[0][(crc ^ *next++) & 255];
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t start, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    uint64_t crc = ~start, word;
    for (; count >= 8; count -= 8, next += 8) {
        memcpy(&word, next, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    while (count--) crc = __builtin_ia32_crc32qi((uint32_t)crc, *next++);
    return ~(uint32_t)crc;
}
static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#include <sys/auxv.h>
__attribute__((target("+crc"))) static uint32_t by_instruction(uint32_t start, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    uint32_t crc = ~start;
    uint64_t word;
    for (; count >= 8; count -= 8, next += 8) {
        memcpy(&word, next, 8);
        crc = __builtin_arm_crc32cd(crc, word);
    }
    while (count--) crc = __builtin_arm_crc32cb(crc, *next++);
    return ~crc;
}
static int has_instruction(void) { return (getauxval(AT_HWCAP) & 1 << 7) != 0; }
#else
#define by_instruction clx_crc32c_by_table
static int has_instruction(void) { return 0; }
#endif

static int uses_instruction;
__attribute__((constructor)) static void choose(void) { uses_instruction = has_instruction(); }

uint32_t clx_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return uses_instruction ? by_instruction(crc, bytes, count) : clx_crc32c_by_table(crc, bytes, count);
}
