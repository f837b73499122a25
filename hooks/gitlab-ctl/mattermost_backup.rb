# The commands of gitlab-mm-backup in gitlab-ctl; see gitlab-mm(8).
#
# gitlab-ctl evaluates this text inside its own object whenever it runs, so a fault in here would
# break all of gitlab-ctl: it requires nothing, looks up nothing, defines no constant, is plain ASCII,
# and does nothing in a gitlab-ctl without this interface.
{
  'mattermost-backup' => ['backup', 'Make a backup set of Mattermost while it keeps running'],
  'mattermost-restore' => ['restore', 'Put a backup set of Mattermost back [SET] [options]'],
  'mattermost-sso' => ['sso', 'Check or repair sign-in through GitLab: check or repair'],
  'mattermost-doctor' => ['doctor', 'Say whether Mattermost can be backed up and restored']
}.each do |command, (verb, description)|
  next unless respond_to?(:add_command_under_category)

  # 2: arguments are allowed. Blocks get the first of them at most, and not if it is an option, so
  # they are taken from ARGV: the name gitlab, where the command files are, the command, then ours.
  add_command_under_category(command, 'backup', description, 2) do
    program = '/usr/bin/gitlab-mm'
    begin
      # In place of this process: signals, terminal and exit code are then the program's own.
      Kernel.exec([program, program], verb, *ARGV.drop(3))
    rescue SystemCallError => e
      $stderr.puts "gitlab-ctl #{command}: #{e.message}",
                   'It belongs to the package gitlab-mm-backup; install that again.'
      Kernel.exit 1
    end
  end
end
