def insert_polls(function): pass
