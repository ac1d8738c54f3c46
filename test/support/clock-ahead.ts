/** Preloaded into a program: its clock is an hour ahead of that of the machine. */
const AHEAD_MS = 3_600_000;

globalThis.Date = new Proxy(Date, {
  construct: (target, args: readonly unknown[]) => {
    const made: object = Reflect.construct(target, args.length === 0 ? [target.now() + AHEAD_MS] : args);
    return made;
  },
  get: (target, name) => {
    if (name === 'now') return () => target.now() + AHEAD_MS;
    const value: unknown = Reflect.get(target, name);
    return value;
  },
});
