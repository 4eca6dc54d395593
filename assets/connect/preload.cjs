const { readFileSync } = require('node:fs');
const tls = require('node:tls');

const connect = tls.connect;
tls.connect = function (...given) {
  const named = given.findLast((one) => typeof one === 'object' && one !== null);
  const [port, host] = typeof given[0] === 'object' ? [named.port, named.host ?? named.hostname] : given;
  // No other server gets to see it.
  if (Number(port) !== gateway.port || host !== gateway.host) return connect.apply(this, given);
  const listener = given.find((one) => typeof one === 'function');
  const { ca, cert, key } = gateway;
  // Read each time, so that a renewed certificate is used.
  const ours = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), rejectUnauthorized: true };
  if (gateway.servername) ours.servername = gateway.servername;
  return connect.call(this, { ...named, port, host, ...ours }, listener);
};
