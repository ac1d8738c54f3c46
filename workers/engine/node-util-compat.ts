/** Node 23 dropped two functions of `util` that tfjs-node still calls: put back before it is loaded. */
import util from 'node:util';

Object.assign(util, {
  isNullOrUndefined: (value: unknown): boolean => value === null || value === undefined,
  isArray: Array.isArray,
});
