/**
 * Ends with one sentence under a Node that is too old to start the pinned one (package.json, engines). npm does not say
 * it: see .npmrc.
 */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(
    `Node 20.19 or later is needed, and this is ${process.version}. The programs run on a Node of their own.`,
  );
  process.exit(2);
}
