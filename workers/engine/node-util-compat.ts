/** Restores two functions of `util` that Node 23 removed and tfjs-node still calls. Import it before tfjs-node. */
import util from 'node:util';

Object.assign(util, {
  isNullOrUndefined: (value: unknown): boolean => value === null || value === undefined,
  isArray: Array.isArray,
});
