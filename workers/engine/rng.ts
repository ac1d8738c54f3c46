/** The engine's only random number generator. It is in src/statistics, so that the server can repeat a bootstrap. */
export { createRandom, restoreRandom, type Random, type RandomState } from '../../src/statistics/random.ts';
