// The certified provider `oidc-provider`, for one client of ours: node server.mjs REDIRECT_URI LOGOUT_URI
// Whoever logs in by its development form is that person, with an address at example.com. Prints its issuer.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [redirect, logout] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'portcullis',
      client_secret: 'not-a-secret-of-anybody',
      redirect_uris: [redirect],
      post_logout_redirect_uris: [],
      backchannel_logout_uri: logout,
      backchannel_logout_session_required: true,
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['for tests only'] },
    features: {
      devInteractions: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
    },
    // Without the dispatcher that keeps it from calling this very machine, where our logout address is.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups: ['eng'] }),
    }),
  });
  provider.on('backchannel.error', (_, error) => console.error('no back-channel logout:', error, error.cause));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on('end', () => process.exit(0)).resume(); // ends with whoever started it
