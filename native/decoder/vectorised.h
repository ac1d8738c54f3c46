// Loops for the processor at hand.
#pragma once

#if defined(__x86_64__)
// Compiled twice; the processor chooses when the addon is loaded.
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif
