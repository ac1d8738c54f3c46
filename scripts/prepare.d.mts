/** The types of prepare.mjs, which stays JavaScript because it runs before any TypeScript can. */
export const pinnedNode: string;
export const compileCache: string;
export function generatedFrom(): string[];
export function prepare(): void;
export function generate(): void;
