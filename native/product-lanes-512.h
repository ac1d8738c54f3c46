/**
 * What the kernels of 512 bits have in common. A kernel's source file includes this after its target pragma, because
 * functions are compiled for the instruction set that is in effect where they are defined.
 */
namespace paraffin {
namespace {

/** Eight times three sums, three factors and a repeated one fit in the 32 vector registers. */
struct Lanes512 {
  static constexpr int ROWS_MAX = 8;
  static constexpr int PANELS_MAX = 3;
  using Factor = __m512;
  using Panel = __m512;

  static Factor broadcast(const float* lane) { return _mm512_set1_ps(*lane); }
  static Panel load(const float* lanes) { return _mm512_loadu_ps(lanes); }
  static Panel zero() { return _mm512_setzero_ps(); }
  static void store(float* lanes, Panel panel) { _mm512_storeu_ps(lanes, panel); }
};

}  // namespace
}  // namespace paraffin
