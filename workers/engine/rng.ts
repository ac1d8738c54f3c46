/** The engine's only source of chance. It lies in src/statistics, so that the server can draw a bootstrap again. */
export { createRandom, restoreRandom, type Random, type RandomState } from '../../src/statistics/random.ts';
