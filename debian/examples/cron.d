# An example in place of /etc/cron.d/gitlab-mm-backup: a set every six hours instead of every night,
# and each Sunday the newest one is read as a whole and held against its manifest.
#
# Only trouble is mailed. Comment the line in the shipped file out, then put this beside it as
# /etc/cron.d/gitlab-mm-backup-local: names with a dot are passed over by cron.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=root

43 4,10,16,22 * * * root [ ! -x /usr/bin/gitlab-mm-backup ] || nice -n 19 ionice -t -c 2 -n 7 /usr/bin/gitlab-mm-backup --if-present --quiet
13 7 * * 7 root [ ! -x /usr/bin/gitlab-mm ] || nice -n 19 ionice -t -c 2 -n 7 /usr/bin/gitlab-mm verify --quiet
