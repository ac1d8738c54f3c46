/** The one import of Nexus, so that it can be replaced. Types of the schema are declared through these. */
export {
  arg,
  enumType,
  extendType,
  floatArg,
  idArg,
  inputObjectType,
  intArg,
  interfaceType,
  list,
  makeSchema,
  nonNull,
  nullable,
  objectType,
  scalarType,
  stringArg,
  subscriptionType,
} from 'nexus';
