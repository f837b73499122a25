# One backup set of the bundled Mattermost every night, after the hour in which
# GitLab's own backup usually runs (02:00). Change the hour or comment the line
# out as you like: upgrades keep your version of this file.
#
# It says nothing, and cron mails nothing, unless a set could not be made or
# needs your attention. It does nothing where no bundled Mattermost is set up,
# and nothing when the package was removed but this file stayed.
#
# Lowest best-effort I/O priority rather than idle: on a busy disk an idle job
# can starve, and with it the database snapshot it holds open.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

43 4 * * * root [ ! -x /usr/bin/gitlab-mm-backup ] || nice -n 19 ionice -t -c 2 -n 7 /usr/bin/gitlab-mm-backup --if-present --quiet
