def split(function): pass
