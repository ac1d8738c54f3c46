/** Types of prepare.mjs, which is JavaScript because it runs before TypeScript can. */
export const pinnedNode: string;
export const compileCache: string;
export function generatedFrom(): string[];
export function prepare(): void;
export function generate(): void;
