/**
 * For people who use the native `prisma` command on the same history; the product itself applies migrations at start.
 */
import { defineConfig } from 'prisma/config';

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
  datasource: { url: process.env['PARAFFIN_DATABASE_URL'] ?? 'postgresql://127.0.0.1:5432/paraffin' },
});
