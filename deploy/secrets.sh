#!/bin/sh
# Makes the secrets of docker-compose.yml under deploy/secrets, where they are not there yet. Run it once, and again
# whenever you like: it changes nothing that is there.
#
# Containers read these files as users of their own, so the folder is closed and not the files.
set -eu
cd "$(dirname "$0")"

mkdir -p secrets
chmod 700 secrets
umask 022

password() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

for name in postgres nats_ingest nats_issuer nats_projector nats_console nats_licenses nats_operator; do
    [ -s "secrets/$name" ] || password >"secrets/$name"
done

# One line for each user of deploy/nats/permissions.conf.
{
    for user in ingest issuer projector console licenses operator; do
        echo "$(echo "$user" | tr '[:lower:]' '[:upper:]')_PASSWORD: \"$(cat "secrets/nats_$user")\""
    done
} >secrets/nats_passwords.conf

if [ ! -e secrets/stripe_webhooks ]; then
    echo "# Stripe's webhook secrets (whsec_…), one on each line." >secrets/stripe_webhooks
    echo "Now put Stripe's webhook secrets into deploy/secrets/stripe_webhooks, one on each line."
fi
